"""Nodes as virtual machines of VirtualBox, by Vagrant."""

NAME = "virtualbox"
"""As lab.yaml and Vagrant call it."""
