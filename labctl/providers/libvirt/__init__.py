"""Nodes as virtual machines of libvirt and QEMU, by Vagrant."""

NAME = "libvirt"
"""In lab.yaml and in Vagrant."""
