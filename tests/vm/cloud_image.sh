#!/usr/bin/env bash
# Makes a disk that plays Debian's official cloud image, of the packages that Debian's own is made
# of: kernel, grub-cloud, cloud-init, netplan, an SSH server; no user, no key, no name, address by
# DHCP. Unlike Debian's it has the lab's packages already, so that a machine without hardware
# virtualization need not unpack 211 of them; those in $missing it has not. They are in /run/out/repo, for a
# server that plays the mirror.
# usage: cloud_image.sh system MIRROR | disk, inside the baked image (provision/image/box/enter.sh)
set -euo pipefail
missing=(ovn-central tcpdump)

system() {
    # Nothing of labctl's recipe that a cloud image has not.
    rm -rf /etc/labctl /var/lib/labctl/done /usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    apt-get update -q
    apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold \
        linux-image-amd64 initramfs-tools grub-cloud-amd64 cloud-init cloud-guest-utils netplan.io \
        systemd-resolved openssh-server sudo e2fsprogs fdisk gdisk
    mkdir -p /run/out/repo
    apt-get remove -qy "${missing[@]}"
    (
        cd /run/out/repo
        apt-get download -q "${missing[@]}"
        for file in *.deb; do
            dpkg-deb -f "$file"
            printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$file" "$(stat -c %s "$file")" \
                "$(sha256sum "$file" | cut -d' ' -f1)"
        done >Packages
    )
    rm -f /etc/apt/sources.list.d/* /usr/sbin/policy-rc.d /etc/ssh/ssh_host_*
    echo "deb [trusted=yes] $1 ./" >/etc/apt/sources.list
    systemctl enable --quiet ssh systemd-networkd systemd-resolved cloud-init-local cloud-init-main \
        cloud-init-network cloud-config cloud-final || true
    ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
    # Emulated on a busy host a service may take minutes to start, and be as well as any other.
    mkdir -p /etc/systemd/system.conf.d
    printf '[Manager]\nDefaultTimeoutStartSec=30min\nDefaultDeviceTimeoutSec=30min\n' \
        >/etc/systemd/system.conf.d/emulated.conf
    : >/etc/machine-id
    echo localhost >/etc/hostname
    rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /var/lib/cloud /var/log/*.log
    local kernel
    kernel=$(basename /boot/vmlinuz-*)
    mkdir -p /boot/grub/i386-pc
    cp /usr/lib/grub/i386-pc/*.mod /boot/grub/i386-pc/
    echo "UUID=$uuid / ext4 rw,discard,errors=remount-ro 0 1" >/etc/fstab
    cat >/boot/grub/grub.cfg <<END
set timeout=0
linux /boot/$kernel root=UUID=$uuid ro console=tty0 console=ttyS0,115200 mitigations=off nowatchdog systemd.service_watchdogs=no
initrd /boot/initrd.img-${kernel#vmlinuz-}
boot
END
}

disk() {
    cd /run/out
    local start=2048 # sectors; what lies before it is the boot record and GRUB
    rm -f disk.raw
    truncate -s 4G disk.raw # Debian's has 3
    printf 'label: dos\nstart=%s, type=83, bootable\n' "$start" | sfdisk -q disk.raw
    mke2fs -q -t ext4 -U "$uuid" -d /run/tree -m 1 -E offset=$((start * 512)),root_owner=0:0 \
        disk.raw $(((4 * 1024 * 1024 * 2 - start) / 2))k
    grub-mkimage -d /usr/lib/grub/i386-pc -O i386-pc -o core.img -p '(hd0,msdos1)/boot/grub' \
        biosdisk part_msdos ext2 search_fs_uuid linux normal configfile
    dd if=/usr/lib/grub/i386-pc/boot.img of=disk.raw bs=440 count=1 conv=notrunc status=none
    dd if=core.img of=disk.raw bs=512 seek=1 conv=notrunc status=none
    rm core.img
}

uuid=6c616263-746c-4c6c-8f75-64696d616765
"$@"
