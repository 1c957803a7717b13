#!/usr/bin/env bash
# Makes the rig's little world and keeps it until its input ends: VirtualBox's root file system over
# a tmpfs, a network with nothing but a loopback, `vagrant` and `VBoxManage` on this side of it.
# usage: enter.sh ROOT SOURCE WORK [DIRECTORY...], in mount, PID and network namespaces of its own.
# WORK and the directories are seen at the same path on both sides.
set -euo pipefail
root=$1 source=$2 work=$3
shift 2

ip link set lo up
# An Internet for NAT to reach. Nothing else is here, so nothing can leave.
ip address add 8.8.8.8/32 dev lo
# NAT's ping is a ping socket of the host; whoever may open one is a setting of each network
# namespace. systemd opens it to everybody.
echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range

rig=$work/rig
mkdir -p "$rig" "$work/home" "$work/vagrant"
mount -t tmpfs -o mode=755 tmpfs "$rig"
mkdir "$rig"/{upper,work,root,bin,etc-upper,etc-work}
mount -t overlay overlay -o "lowerdir=$root,upperdir=$rig/upper,workdir=$rig/work" "$rig/root"
inside=$rig/root
mount -t proc proc "$inside/proc"
mount -t sysfs sysfs "$inside/sys"
mount -t tmpfs -o mode=755 tmpfs "$inside/dev"
for device in null zero full random urandom tty; do
    : >"$inside/dev/$device"
    mount --bind "/dev/$device" "$inside/dev/$device"
done
mkdir "$inside"/dev/{shm,pts}
mount -t tmpfs tmpfs "$inside/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$inside/dev/pts"
ln -s pts/ptmx "$inside/dev/ptmx"
ln -s /proc/self/fd "$inside/dev/fd"
mkdir -p "$inside/run/vde"
printf 'nameserver 8.8.8.8\n' >"$inside/etc/resolv.conf"
printf '127.0.0.1 localhost\n' >"$inside/etc/hosts"
# VirtualBox takes the home directory from here, not from $HOME.
sed -i "s,^root:.*,root:x:0:0:root:$work/home:/bin/bash," "$inside/etc/passwd"

# labctl looks into /etc/vbox of the machine it runs on, VirtualBox into that of its own root.
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$rig/etc-upper,workdir=$rig/etc-work" /etc
mkdir -p /etc/vbox "$inside/etc/vbox"
mount --bind /etc/vbox "$inside/etc/vbox"

for directory; do
    mkdir -p "$inside$directory"
    mount --bind "$directory" "$inside$directory"
done

install -m 755 "$source/VBoxManage.sh" "$inside/usr/local/bin/VBoxManage"
cp "$source/vagrant-home.rb" "$work/vagrant/Vagrantfile"
for command in vagrant VBoxManage in-rig; do
    [ "$command" = in-rig ] && run= || run=$command
    cat >"$rig/bin/$command" <<END
#!/bin/sh
PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec chroot '$inside' sh -c 'cd "\$1" && shift && exec "\$@"' rig "\$PWD" $run "\$@"
END
    chmod 755 "$rig/bin/$command"
done

echo ready
cat >/dev/null # until whoever started this closes it, or is gone
