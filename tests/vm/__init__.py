"""Real labs in virtual machines of libvirt and QEMU, emulated where there is no KVM: minutes."""
