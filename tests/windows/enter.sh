#!/usr/bin/env bash
# Makes the little world of a Windows and keeps it until its input ends: Debian's root file system
# with wine over a tmpfs, and a network with nothing but a loopback.
# usage: enter.sh ROOT DIRECTORY, in mount, PID and network namespaces of its own; DIRECTORY/root is
# that file system then.
set -euo pipefail
root=$1 rig=$2

ip link set lo up
mkdir -p "$rig"
mount -t tmpfs -o mode=755 tmpfs "$rig"
mkdir "$rig"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$root,upperdir=$rig/upper,workdir=$rig/work" "$rig/root"
inside=$rig/root
mount -t proc proc "$inside/proc"
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
mount -t tmpfs tmpfs "$inside/tmp"
printf '127.0.0.1 localhost\n' >"$inside/etc/hosts"

echo ready
cat >/dev/null # until whoever started this closes it, or is gone
