#!/usr/bin/env bash
# Makes a disk that plays Debian's official cloud image, of the packages that Debian's own has:
# kernel, GRUB, cloud-init, netplan, an SSH server; no user, no key, no name, address by DHCP.
# usage: cloud_image.sh OUTPUT.raw [MIRROR], as root; GIB of the disk is 3, as Debian's.
# shellcheck disable=SC2016 # the hooks are for the shell of mmdebstrap
set -euo pipefail
output=$(realpath -m "$1")
mirror=${2:-}
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
uuid=6c616263-746c-4c6c-8f75-64696d616765
packages=linux-image-amd64,initramfs-tools,grub-pc-bin,cloud-init,cloud-guest-utils,netplan.io
packages+=,systemd-resolved,systemd-sysv,dbus,openssh-server,sudo,ca-certificates,e2fsprogs,fdisk
packages+=,isc-dhcp-client,iproute2,gdisk,udev
mmdebstrap --mode=root --variant=apt --include="$packages" \
    --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --customize-hook='rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/resolv.conf"' \
    --customize-hook='ln -s ../run/systemd/resolve/stub-resolv.conf "$1/etc/resolv.conf"' \
    --customize-hook=': >"$1/etc/machine-id"; echo localhost >"$1/etc/hostname"' \
    --customize-hook='echo "deb http://deb.debian.org/debian trixie main" >"$1/etc/apt/sources.list"' \
    trixie "$work/root" ${mirror:+"$mirror"}
root=$work/root
echo "UUID=$uuid / ext4 rw,discard,errors=remount-ro 0 1" >"$root/etc/fstab"
mkdir -p "$root/boot/grub"
kernel=$(basename "$root"/boot/vmlinuz-*)
cat >"$root/boot/grub/grub.cfg" <<END
set timeout=0
set root=(hd0,msdos1)
linux /boot/$kernel root=UUID=$uuid ro console=tty0 console=ttyS0,115200
initrd /boot/initrd.img-${kernel#vmlinuz-}
boot
END
start=2048
truncate -s 3G "$output"
# The one partition: bootable, type 83, from sector $start to the end.
python3 - "$output" $start <<'END'
import os, struct, sys
path, start = sys.argv[1], int(sys.argv[2])
entry = struct.pack("<B3sB3sII", 0x80, b"", 0x83, b"", start, os.path.getsize(path) // 512 - start)
with open(path, "r+b") as disk:
    disk.seek(446)
    disk.write(entry.ljust(64, b"\0") + b"\x55\xaa")
END
mke2fs -q -t ext4 -U $uuid -d "$root" -m 1 -E offset=$((start * 512)),root_owner=0:0 "$output" \
    $(((3 * 1024 * 1024 * 2 - start) / 2))k
chroot "$root" grub-mkimage -O i386-pc -o /tmp/core.img -p '(hd0,msdos1)/boot/grub' \
    biosdisk part_msdos ext2 linux normal
dd if="$root/usr/lib/grub/i386-pc/boot.img" of="$output" bs=440 count=1 conv=notrunc status=none
dd if="$root/tmp/core.img" of="$output" bs=512 seek=1 conv=notrunc status=none
