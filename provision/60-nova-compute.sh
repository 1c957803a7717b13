#!/usr/bin/env bash
# nova-compute on libvirt: with KVM if this node has it, emulated otherwise.
. "$(dirname "$0")/lib.sh"

VIRT_TYPE=qemu CPU_MODE=none
# QEMU's own choice on arm64 is a processor of 32 bits; of "custom" Nova makes "max", all that it
# emulates. And libvirt has no "host-model" there.
if [ "$ARCHITECTURE" = arm64 ]; then CPU_MODE=custom; fi
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then
    VIRT_TYPE=kvm
    case $ARCHITECTURE in amd64) CPU_MODE=host-model ;; arm64) CPU_MODE=host-passthrough ;; esac
fi
export VIRT_TYPE CPU_MODE

template nova-compute-node.conf /etc/nova/nova.conf root:nova 640
template nova-compute.conf /etc/nova/nova-compute.conf root:nova 640
order_after nova-compute
up nova-compute
say "nova-compute starts ($VIRT_TYPE)"
