#!/usr/bin/env bash
# Makes the disks of a box with the tools of the image; needs no loop device and no mount.
# usage: disk.sh raw UUID GIB | qcow2 | vmdk, inside the image (enter.sh)
. "$(dirname "$0")/../../lib.sh"
cd /run/out
modules=(ext2 search_fs_uuid linux normal echo test configfile ls) # of GRUB, on every machine

# partitions_*: set `start` of the root file system and what is `behind` it, in sectors.
# loader_*: GRUB, in the way that the firmware of such machines looks for it.

partitions_amd64() { # BIOS: what lies before the partition is the boot record and GRUB
    start=2048 behind=0
    printf 'label: dos\nlabel-id: 0x%s\nstart=%s, type=83, bootable\n' "${uuid:0:8}" "$start" | sfdisk -q disk.raw
}

loader_amd64() {
    local grub=/usr/lib/grub/i386-pc
    grub-mkimage -d "$grub" -O i386-pc -o core.img -p '(hd0,msdos1)/boot/grub' \
        biosdisk part_msdos "${modules[@]}"
    [ "$(stat -c %s core.img)" -lt $(((start - 1) * 512)) ] || die "GRUB does not fit before the partition"
    dd if="$grub/boot.img" of=disk.raw bs=440 count=1 conv=notrunc status=none
    dd if=core.img of=disk.raw bs=512 seek=1 conv=notrunc status=none
    rm -f core.img
}

partitions_arm64() { # EFI: a partition with FAT, and in it the one name that needs no boot entry
    start=$((2048 + 65536)) behind=2048 # behind it: the second copy of the partition table
    printf '%s\n' 'label: gpt' "label-id: $uuid" 'start=2048, size=65536, type=uefi' \
        "start=$start, size=$((gib * 1024 * 1024 * 2 - start - behind)), type=linux" | sfdisk -q disk.raw
}

loader_arm64() {
    printf '%s\n' "search --no-floppy --fs-uuid --set=root $uuid" 'set prefix=($root)/boot/grub' >early.cfg
    grub-mkimage -d /usr/lib/grub/arm64-efi -O arm64-efi -o grub.efi -c early.cfg -p /boot/grub \
        part_gpt "${modules[@]}"
    mformat -i disk.raw@@1M -h 16 -s 63 -T 65536 -v EFI ::
    mmd -i disk.raw@@1M ::EFI ::EFI/BOOT
    mcopy -i disk.raw@@1M grub.efi ::EFI/BOOT/BOOTAA64.EFI
    rm -f grub.efi early.cfg
}

case $1 in
raw)
    uuid=$2 gib=$3
    rm -f disk.raw
    truncate -s "${gib}G" disk.raw
    "partitions_$ARCHITECTURE"
    say "copying the files"
    # prezeroed: the machine need not write the inode tables itself, in its first minutes.
    mke2fs -q -t ext4 -L labctl -U "$uuid" -d /run/tree -m 1 -J size=64 \
        -E "offset=$((start * 512)),assume_storage_prezeroed=1,root_owner=0:0" \
        disk.raw $(((gib * 1024 * 1024 * 2 - start - behind) / 2))k
    "loader_$ARCHITECTURE"
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
