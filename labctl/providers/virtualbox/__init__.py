"""Nodes as virtual machines of VirtualBox, by Vagrant."""

NAME = "virtualbox"
"""In lab.yaml and in Vagrant."""
