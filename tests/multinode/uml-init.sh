#!/bin/bash
# The first process of the kernel that uml.sh starts: its root is this machine's, read-only.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
work='' kept='' disk='' directory='' path='' command=()
# shellcheck source=/dev/null
. "${UML_JOB:?}"

run() {
    set -eu
    for module in overlay openvswitch vport-geneve vport-vxlan geneve vxlan veth bridge tun 8021q \
        vrf dummy nf_conntrack nf_nat nf_tables sch_netem; do
        modprobe --dirname "$work/uml" "$module" || echo "no module $module"
    done
    mount /dev/ubda /mnt
    mkdir /mnt/upper /mnt/work /mnt/root /mnt/disk
    mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
    mount -o remount,rw /
    mount --bind "$kept" "/mnt/root$kept"
    mount --bind /mnt/disk "/mnt/root$disk"
    # An image is layers of overlayfs itself: whoever reads it through another would miss files.
    [ ! -d /var/cache/labctl ] || mount --bind /var/cache/labctl /mnt/root/var/cache/labctl
    mount -t proc proc /mnt/root/proc
    mount -t sysfs sysfs /mnt/root/sys
    mount -t cgroup2 cgroup2 /mnt/root/sys/fs/cgroup
    mount --move /dev /mnt/root/dev
    mkdir -p /mnt/root/dev/pts /mnt/root/dev/shm /mnt/root/dev/net
    mount -t devpts devpts /mnt/root/dev/pts -o ptmxmode=666
    for place in /dev/shm /run /tmp /var/tmp; do
        case $work/ in "$place"/*) continue ;; esac
        mount -t tmpfs tmpfs "/mnt/root$place"
    done
    [ -e /mnt/root/dev/net/tun ] || mknod /mnt/root/dev/net/tun c 10 200
    ip link set lo up
    mount --make-rshared /
}

if (run); then
    chroot /mnt/root env -i -C "$directory" PATH="$path" HOME=/root LANG=C.UTF-8 "${command[@]}"
    echo $? >"/mnt/root$kept/status"
fi
sync
echo o >/proc/sysrq-trigger
sleep 10
