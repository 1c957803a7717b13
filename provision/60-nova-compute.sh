#!/usr/bin/env bash
# nova-compute on libvirt: with KVM if this node has it, emulated otherwise.
. "$(dirname "$0")/lib.sh"

VIRT_TYPE=qemu CPU_MODE=none
if [ -r /dev/kvm ] && [ -w /dev/kvm ]; then VIRT_TYPE=kvm CPU_MODE=host-model; fi
export VIRT_TYPE CPU_MODE

template nova-compute-node.conf /etc/nova/nova.conf root:nova 640
template nova-compute.conf /etc/nova/nova-compute.conf root:nova 640
order_after nova-compute
up nova-compute
say "nova-compute starts ($VIRT_TYPE)"
