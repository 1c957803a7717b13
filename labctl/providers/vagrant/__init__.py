"""Nodes as virtual machines, by Vagrant with VirtualBox or libvirt."""
