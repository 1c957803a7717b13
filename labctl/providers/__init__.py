"""What makes nodes exist: systemd-nspawn here, VirtualBox and libvirt by Vagrant.

A folder each, and `registry` has an entry for each."""

from labctl.providers.provider import HostEnd, Provider

__all__ = [
    "HostEnd",
    "Provider",
    "host_capture",
    "kvm",
    "registry",
    "vagrant.vagrantfile",
]
