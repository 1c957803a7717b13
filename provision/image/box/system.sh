#!/usr/bin/env bash
# Makes the baked image one that a virtual machine boots: kernel, user vagrant, address by DHCP.
# usage: system.sh VERSION UUID, once, inside the image (enter.sh). UUID is the root file system's.
. "$(dirname "$0")/../../lib.sh"
box=$PROVISION/image/box
version=$1 uuid=$2

# put FILE TARGET [MODE]
put() { install -D -m "${3:-644}" "$box/files/$1" "$2"; }

printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d # nothing may start
chmod 755 /usr/sbin/policy-rc.d
# Before the packages come in, so that the kernel's own script makes the initramfs we want.
put dpkg.cfg /etc/dpkg/dpkg.cfg.d/labctl-box
put kernel-img.conf /etc/kernel-img.conf
put initramfs.conf /etc/initramfs-tools/conf.d/labctl-box
put initramfs-modules /usr/share/initramfs-tools/modules.d/labctl-box
put initramfs-hook /etc/initramfs-tools/hooks/zz-labctl-box 755
put interfaces /etc/network/interfaces
mapfile -t wanted < <(packages_of "$PROVISION/packages/box.list")
fetch() { apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold "${wanted[@]}"; }
# The lists are as old as the packages layer; what they name may have left the mirror since.
fetch || {
    apt-get update -q
    fetch
}

# Again, for what these packages enabled; and what a machine has and a lab has no use for.
bash "$PROVISION/12-quiet.sh"
cd /etc/systemd/system
for unit in man-db.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer systemd-pstore.service \
    systemd-binfmt.service sshd-keygen.service; do
    ln -sfn /dev/null "$unit"
done
ln -sfn /usr/lib/systemd/system/multi-user.target default.target
put labctl-host-keys.service /etc/systemd/system/labctl-host-keys.service
systemctl enable --quiet ssh networking systemd-timesyncd labctl-host-keys
# Each SSH login would start a systemd of the user's own: 10 MB and, emulated, seconds.
pam-auth-update --disable systemd

useradd --create-home --shell /bin/bash vagrant
echo vagrant:vagrant | chpasswd # for the machine's console; sshd takes keys only
install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
grep -v '^#' "$box/files/vagrant.pub" >/home/vagrant/.ssh/authorized_keys
chown vagrant: /home/vagrant/.ssh/authorized_keys
chmod 600 /home/vagrant/.ssh/authorized_keys
put sudoers /etc/sudoers.d/vagrant 440
put sshd.conf /etc/ssh/sshd_config.d/labctl-box.conf

echo labctl-lab >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 labctl-lab\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts
echo "UUID=$uuid / ext4 noatime,errors=remount-ro 0 1" >/etc/fstab
mkdir -p /boot/grub /etc/labctl
case $ARCHITECTURE in
amd64) disk='(hd0,msdos1)' serial=ttyS0 timer=no_timer_check ;;
arm64) disk='(hd0,gpt2)' serial=ttyAMA0 timer= ;;
esac
# shellcheck disable=SC2016 # envsubst is told the names
UUID=$uuid DISK=$disk SERIAL=$serial TIMER=$timer envsubst '$UUID $DISK $SERIAL $TIMER' \
    <"$box/files/grub.cfg" >/boot/grub/grub.cfg
echo "$version" >/etc/labctl/box
[ -e /boot/vmlinuz ] && [ -e /boot/initrd.img ] || die "the kernel left no /boot/vmlinuz and initrd.img"
modinfo -k "$(basename "$(realpath /boot/vmlinuz)" | sed 's/^vmlinuz-//')" \
    openvswitch geneve virtio_net e1000 8021q nf_nat >/dev/null

[ -e /etc/default/locale ] || : >/etc/default/locale # PAM looks for it at each login
# Else the first boot looks at all of /usr: ldconfig, catalogues, users.
ldconfig
touch /etc/.updated /var/.updated

# Identity belongs to a machine, not to a box.
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /usr/sbin/policy-rc.d
: >/etc/machine-id
: >/etc/resolv.conf
rm -rf /var/log/journal/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
say "kernel $(readlink /boot/vmlinuz)"
