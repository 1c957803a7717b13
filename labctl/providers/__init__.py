"""What makes nodes exist: systemd-nspawn here, VirtualBox and libvirt by Vagrant.

A folder each, and `registry` has an entry for each."""

from labctl.providers.provider import Cancel, FarSide, Features, NodeSnapshots, Progress, Provider

__all__ = ["Cancel", "FarSide", "Features", "NodeSnapshots", "Progress", "Provider"]
