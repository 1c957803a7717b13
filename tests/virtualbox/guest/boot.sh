#!/bin/sh
# Run once by init at boot.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,rw /
hostname -F /etc/hostname
ip link set lo up
ip link set eth0 up
# As a box does it: the address comes from NAT's own DHCP server.
udhcpc -i eth0 -q -n -t 10 -T 2 -s /etc/udhcpc.script
[ ! -d /sys/class/net/eth1 ] || ip link set eth1 up
[ -s /etc/dropbear/host_key ] || dropbearkey -t ed25519 -f /etc/dropbear/host_key >/dev/null
echo "up after $(cut -d' ' -f1 /proc/uptime) s"
