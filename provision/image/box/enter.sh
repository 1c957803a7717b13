#!/usr/bin/env bash
# Runs a script of provision/image inside the baked image, in a mount and PID namespace of its own.
# usage: enter.sh LOWER AREA PROVISION SCRIPT [ARGUMENT...], in the directory of the cache.
# LOWER is overlayfs's list of layers. If AREA/root exists, it catches what the script writes, and
# PROVISION is put into it first; else the image can only be read. AREA/out is /run/out inside,
# AREA/in, if it exists, /run/in; and /run/tree is the image without /proc, /sys, /dev and whatever
# else is mounted on it, but with what AREA/more says: in each line a directory of the cache, and
# where in the tree it is to be. So layers get into it, which an overlay could not hold.
set -euo pipefail
lower=$1 area=$2 provision=$3 script=$4
shift 4
mount --make-rprivate /
cache=$PWD
here=/opt/labctl/provision
if [ -d "$area/root" ]; then
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$area/root,workdir=$area/work" "$area/merged"
    rm -rf "${area:?}/merged$here"
    mkdir -p "$area/merged${here%/*}"
    cp -r "$provision" "$area/merged$here"
    # The names of the mirrors must resolve while packages are fetched.
    rm -f "$area/merged/etc/resolv.conf"
    cp -L /etc/resolv.conf "$area/merged/etc/resolv.conf"
else
    mount -t overlay overlay -o "ro,lowerdir=$lower" "$area/merged"
fi
out=$(realpath "$area/out") in=$(realpath -m "$area/in") more=$(realpath -m "$area/more")
cd "$area/merged"
mount -t proc proc proc
mount -t sysfs -o ro sys sys
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir dev/shm dev/pts
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir run/out run/tree run/lock
mount --bind "$out" run/out
mount --bind . run/tree
mount -o remount,bind,ro run/tree
if [ -d "$in" ]; then
    mkdir run/in
    mount --bind "$in" run/in
fi
if [ -f "$more" ]; then
    while read -r source target; do mount --bind "$cache/$source" "run/tree/$target"; done <"$more"
fi
proxies=()
for name in http_proxy https_proxy; do
    [ -z "${!name:-}" ] || proxies+=("$name=${!name}")
done
chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "${proxies[@]}" \
    bash "$here/image/$script" "$@"
