"""What makes nodes: systemd-nspawn on this machine, VirtualBox and libvirt through Vagrant.

Each provider has a folder here; `registry` finds its entry by its name."""

from labctl.providers.provider import HostEnd, Provider

__all__ = [
    "HostEnd",
    "Provider",
    "host_capture",
    "kvm",
    "registry",
    "timeout_factor",
    "vagrant.command",
    "vagrant.provider",
    "vagrant.vagrantfile",
]
