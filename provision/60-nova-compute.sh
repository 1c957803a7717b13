#!/usr/bin/env bash
# nova-compute on libvirt and QEMU: with KVM if this node has it, emulated otherwise.
. "$(dirname "$0")/lib.sh"

VIRT_TYPE=qemu CPU_MODE=none
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then VIRT_TYPE=kvm CPU_MODE=host-model; fi
export VIRT_TYPE CPU_MODE

verbatim qemu.conf /etc/libvirt/qemu.conf root:root 600
template nova-compute-node.conf /etc/nova/nova.conf root:nova 640
template nova-compute.conf /etc/nova/nova-compute.conf root:nova 640

if grep -q '^DATAPATH=netdev' /etc/labctl/network.env; then
    # virtio hands half-finished checksums to Open vSwitch, whose user space datapath drops such
    # TCP segments in conntrack (ping works, SSH does not). QEMU must not offer the offloads, to any
    # image. libvirt asks for the emulator by its path, so the wrapper stands in that place.
    emulator=/usr/bin/qemu-system-x86_64
    if [ ! -e "$emulator.real" ]; then
        dpkg-divert --quiet --local --rename --divert "$emulator.real" --add "$emulator"
    fi
    verbatim qemu-wrapper "$emulator" root:root 755
fi
order_after nova-compute
up libvirtd virtlogd nova-compute
until_ok 60 "libvirt to answer" virsh -c qemu:///system version
say "nova-compute starts ($VIRT_TYPE)"
