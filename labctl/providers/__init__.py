"""What makes nodes exist: systemd-nspawn here, VirtualBox and libvirt by Vagrant."""

from labctl.providers.provider import Cancel, FarSide, Features, NodeSnapshots, Progress, Provider

__all__ = ["Cancel", "FarSide", "Features", "NodeSnapshots", "Progress", "Provider"]
