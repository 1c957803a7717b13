#!/bin/bash
# One member of an Incus cluster, in namespaces of its own (mount, network, pid, cgroup): incus_cluster.py.
# $1: directory of the cluster; $2: unpacked packages of Incus, or "" where Incus is installed;
# $3: number of the member.
set -eu
cluster=$1 packages=$2 number=$3
home=$cluster/m$number
mount --make-rprivate /
if [ -n "$packages" ]; then
  mount -t overlay -o "lowerdir=$packages/usr:/usr" overlay /usr
fi
mkdir -p "$home/state" "$home/cgroup"
# /sys as it is seen from this network, or incusd finds none of its bridges there.
mount --rbind /sys/fs/cgroup "$home/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$home/cgroup" /sys/fs/cgroup
# The range of user IDs that unprivileged containers get.
echo root:1000000:1000000000 >"$home/subid"
for file in /etc/subuid /etc/subgid; do
  if [ -e "$file" ]; then mount --bind "$home/subid" "$file"; fi
done
# Where cgroup v1 is mounted each container makes directories: below one of the test's.
for hierarchy in /sys/fs/cgroup/*/; do
  if [ -e "$hierarchy/cgroup.procs" ] && mkdir -p "$hierarchy/labctl-incus-$number" 2>/dev/null; then
    if [ -e "$hierarchy/labctl-incus-$number/cpuset.cpus" ]; then
      cat "$hierarchy/cpuset.cpus" >"$hierarchy/labctl-incus-$number/cpuset.cpus"
      cat "$hierarchy/cpuset.mems" >"$hierarchy/labctl-incus-$number/cpuset.mems"
    fi
    echo $$ >"$hierarchy/labctl-incus-$number/cgroup.procs" || true
  fi
done
mount -t tmpfs tmpfs /run
mkdir -p /run/incus /run/lock
ip link set lo up
for _ in $(seq 100); do
  if ip link show "v$number" >/dev/null 2>&1; then break; fi
  sleep 0.1
done
ip link set "v$number" name uplink
ip addr add "10.77.0.$number/24" dev uplink
ip link set uplink up
export INCUS_DIR=$home/state INCUS_SOCKET=$home/state/unix.socket HOME=$home
trap 'exit 0' TERM
/usr/libexec/incus/incusd --group root --logfile "$home/incusd.log" >"$home/incusd.out" 2>&1 &
/usr/libexec/incus/incusd waitready --timeout 60
touch "$home/ready"
wait
