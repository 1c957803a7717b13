#!/usr/bin/env bash
# Runs bake.sh inside the packages layer, with an overlay that catches what it writes.
# usage: enter.sh LOWER PARTIAL PROVISION STACK, in a mount and PID namespace of its own.
set -euo pipefail
cd "$2"
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=root,workdir=work" merged
cd merged
mount -t proc proc proc
mount -t sysfs -o ro sys sys
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/shm dev/pts
ln -s /proc/self/fd dev/fd
rm -rf opt/labctl/provision
mkdir -p opt/labctl
cp -r "$3" opt/labctl/provision
# The names of the mirrors must resolve while the kernel package is fetched.
rm -f etc/resolv.conf
cp -L /etc/resolv.conf etc/resolv.conf
chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin bash /opt/labctl/provision/image/bake.sh "$4"
# Nodes resolve by /etc/hosts and, with an uplink, by the resolver their NAT network offers.
: >etc/resolv.conf
rm -f usr/sbin/policy-rc.d
