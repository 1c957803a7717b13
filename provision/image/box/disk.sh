#!/usr/bin/env bash
# Makes the disks of a box with the tools of the image; needs no loop device and no mount.
# usage: disk.sh raw UUID GIB | qcow2 | vmdk, inside the image (enter.sh)
. "$(dirname "$0")/../../lib.sh"
cd /run/out

case $1 in
raw)
    uuid=$2 gib=$3
    start=2048 # sectors; what lies before it is the boot record and GRUB
    rm -f disk.raw
    truncate -s "${gib}G" disk.raw
    printf 'label: dos\nlabel-id: 0x%s\nstart=%s, type=83, bootable\n' "${uuid:0:8}" "$start" | sfdisk -q disk.raw
    say "copying the files"
    # prezeroed: the machine need not write the inode tables itself, in its first minutes.
    mke2fs -q -t ext4 -L labctl -U "$uuid" -d /run/tree -m 1 -J size=64 \
        -E "offset=$((start * 512)),assume_storage_prezeroed=1,root_owner=0:0" \
        disk.raw $(((gib * 1024 * 1024 * 2 - start) / 2))k
    grub=/usr/lib/grub/i386-pc
    grub-mkimage -d "$grub" -O i386-pc -o core.img -p '(hd0,msdos1)/boot/grub' \
        biosdisk part_msdos ext2 search_fs_uuid linux normal echo test configfile ls
    [ "$(stat -c %s core.img)" -lt $(((start - 1) * 512)) ] || die "GRUB does not fit before the partition"
    dd if="$grub/boot.img" of=disk.raw bs=440 count=1 conv=notrunc status=none
    dd if=core.img of=disk.raw bs=512 seek=1 conv=notrunc status=none
    rm -f core.img
    say "$(du -m --apparent-size disk.raw | cut -f1) MB, $(du -m disk.raw | cut -f1) MB of them used"
    ;;
qcow2)
    # zlib: every QEMU reads it. Compressed in several threads; they finish in any order.
    qemu-img convert -f raw -O qcow2 -c -W -m 4 disk.raw box.img
    say "$(du -m box.img | cut -f1) MB"
    ;;
vmdk)
    qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk.raw box-disk001.vmdk
    say "$(du -m box-disk001.vmdk | cut -f1) MB"
    ;;
*) die "disk.sh: what is $1?" ;;
esac
