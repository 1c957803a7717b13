#!/usr/bin/env bash
# The tiny image that the lab's instances run: Debian's cloud kernel, busybox and dropbear in an
# initramfs, on one bootable qcow2 (amd64: 15 MB, BIOS; arm64: 30 MB, EFI). Up in about 3 s of
# guest time under emulation.
# It looks like CirrOS to a script: user cirros, passwordless sudo, DHCP, key from the metadata
# service, a shell on the serial console. labctl's own way in is QEMU's guest agent, so that the
# console is the learner's.
. "$(dirname "$0")/lib.sh"

out=/usr/share/labctl/instance.qcow2
if [ -e "$out" ]; then
    say "$out is there"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# These packages are only unpacked: installing the kernel would build an initramfs for this node,
# the agent is not to serve this node, and its own nc is to stay what it is.
newest=linux-image-cloud-$ARCHITECTURE
kernel=$(apt-cache depends "$newest" | awk '/Depends: linux-image/ { print $2; exit }')
[ -n "$kernel" ] || die "$newest is not in apt's lists; run apt-get update"
apt-get download -q "$kernel" qemu-guest-agent netcat-traditional
dpkg-deb -x ./linux-image-*.deb kernel
dpkg-deb -x ./qemu-guest-agent_*.deb agent
dpkg-deb -x ./netcat-traditional_*.deb netcat
version=$(basename kernel/boot/vmlinuz-* | sed 's/^vmlinuz-//')

root=$work/root
mkdir -p "$root"/{bin,sbin,etc/dropbear,proc,sys,dev,run,tmp,root,home/cirros,lib/modules,usr/bin,usr/sbin,var/log,var/run,lib64}
cp /bin/busybox "$root/bin/busybox"
for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -sf /bin/busybox "$root/bin/$applet"
done
chmod u+s "$root/bin/busybox"
cp /usr/sbin/dropbear "$root/sbin/"
cp /usr/bin/dropbearkey /usr/bin/dbclient "$root/bin/"
ln -s dbclient "$root/bin/ssh"
cp agent/usr/sbin/qemu-ga "$root/sbin/"
# What busybox's own cannot do: see image/instance/ping and nc, which choose.
install -D -m 4755 /usr/bin/ping "$root/usr/libexec/iputils/ping"
install -D -m 755 netcat/usr/bin/nc.traditional "$root/usr/libexec/traditional/nc"
mkdir "$root/usr/libexec/busybox"
for applet in ping nc; do
    ln -s /bin/busybox "$root/usr/libexec/busybox/$applet"
    rm "$root/bin/$applet"
    install -m 755 "$PROVISION/image/instance/$applet" "$root/bin/$applet"
done
# Its libraries are QEMU's, too.
ldd agent/usr/sbin/qemu-ga | grep 'not found' && die "libraries of qemu-ga are not installed"
for library in $(ldd /bin/busybox /usr/sbin/dropbear /usr/bin/dbclient /usr/bin/ping agent/usr/sbin/qemu-ga netcat/usr/bin/nc.traditional | awk '/=> \//{print $3} /^\t\/lib/{print $1}' | sort -u); do
    install -D "$library" "$root$library"
done
# In the order in which they must be inserted.
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci \
    failover net_failover virtio_net e1000 virtio-rng virtio_console af_packet llc stp mrp garp 8021q; do
    file=$(find kernel -name "$module.ko*" | head -n1)
    [ -n "$file" ] || continue # built into this kernel
    case $file in
        *.xz) xz -dc "$file" >"$root/lib/modules/$module.ko" ;;
        *) cp "$file" "$root/lib/modules/$module.ko" ;;
    esac
    echo "$module" >>"$root/lib/modules/order"
done

cp "$PROVISION"/image/instance/{init,agent,udhcpc.sh,profile} "$root/etc/"
mv "$root/etc/init" "$root/init"
mv "$root/etc/agent" "$root/sbin/agent"
install -m 755 "$PROVISION/image/instance/sudo" "$root/bin/sudo"
install -m 755 "$PROVISION/image/instance/shutdown" "$root/sbin/shutdown"
chmod 755 "$root/init" "$root/etc/udhcpc.sh" "$root/sbin/agent"
printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'cirros:x:1000:1000:cirros:/home/cirros:/bin/sh' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'cirros:x:1000:' >"$root/etc/group"
# SSH takes the Nova keypair only (dropbear -s); root's empty password is what sudo stands on.
printf '%s\n' 'root::19000::::::' 'cirros:*:19000::::::' >"$root/etc/shadow"
chmod 600 "$root/etc/shadow"
echo /bin/sh >"$root/etc/shells"
ln -s /proc/mounts "$root/etc/mtab"

(cd "$root" && find . | cpio -o -H newc --quiet -R 0:0) | lz4 -l -9 >initrd

# One FAT partition, from the first MiB on, with the kernel and what starts it.
fat() { mformat -i disk.raw@@1M -h 16 -s 63 -T $(((disk_mib - 2) * 2048)) -v INSTANCE ::; }
amd64_disk() { # BIOS, SYSLINUX
    disk_mib=48
    truncate -s "${disk_mib}M" disk.raw
    dd if=/usr/lib/syslinux/mbr/mbr.bin of=disk.raw conv=notrunc status=none
    printf 'label: dos\nstart=2048, type=6, bootable\n' | sfdisk -q disk.raw
    fat
    syslinux --install --offset $((1024 * 1024)) disk.raw
    mcopy -i disk.raw@@1M "$PROVISION/image/instance/syslinux.cfg" ::
}
arm64_disk() { # EFI, GRUB; the kernel is some 35 MB
    disk_mib=96
    truncate -s "${disk_mib}M" disk.raw
    printf 'label: gpt\nstart=2048, size=%s, type=uefi\n' $(((disk_mib - 2) * 2048)) | sfdisk -q disk.raw
    fat
    grub-mkimage -d /usr/lib/grub/arm64-efi -O arm64-efi -o grub.efi -p / \
        -c "$PROVISION/image/instance/grub.cfg" part_gpt fat search search_fs_file linux
    mmd -i disk.raw@@1M ::EFI ::EFI/BOOT
    mcopy -i disk.raw@@1M grub.efi ::EFI/BOOT/BOOTAA64.EFI
}
"${ARCHITECTURE}_disk"
mcopy -i disk.raw@@1M "kernel/boot/vmlinuz-$version" ::vmlinuz
mcopy -i disk.raw@@1M initrd ::
mkdir -p "$(dirname "$out")"
qemu-img convert -O qcow2 -c disk.raw "$out.new"
mv "$out.new" "$out"
say "$out: kernel $version, $(stat -c %s "$out") bytes"
