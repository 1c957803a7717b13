#!/usr/bin/env bash
# libvirt and QEMU, on which nova-compute starts instances.
. "$(dirname "$0")/lib.sh"

verbatim qemu.conf /etc/libvirt/qemu.conf root:root 600
if grep -q '^DATAPATH=netdev' /etc/labctl/network.env; then
    # virtio hands half-finished checksums to Open vSwitch, whose user space datapath drops such
    # TCP segments in conntrack (ping works, SSH does not). QEMU must not offer the offloads, to any
    # image. libvirt takes the first emulator of its PATH, in which /usr/local comes first.
    verbatim qemu-wrapper "/usr/local/bin/qemu-system-$MACHINE" root:root 755
fi
up libvirtd virtlogd
until_ok 120 "libvirt to answer" virsh -c qemu:///system version
say "$(virsh -c qemu:///system version | tail -n 2 | head -n 1)"
