"""Nodes as virtual machines of libvirt and QEMU, by Vagrant."""

NAME = "libvirt"
"""As lab.yaml and Vagrant call it."""
