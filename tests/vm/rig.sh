#!/usr/bin/env bash
# A libvirt of its own for tests, on a machine where no systemd runs one and whose own libvirt, if it
# has one, is none of our business: libvirtd, its bridges, dnsmasq and virtual machines live in a
# mount, PID and network namespace that has no way out. 8.8.8.8 is there, to be pinged.
#
# usage: rig.sh start DIR            DIR keeps libvirt's files
#        rig.sh exec DIR COMMAND…    run a command in it
#        rig.sh look DIR             what its machines are doing, for the report of a failed test
#        rig.sh awake DIR MACHINE    whether the kernel in a machine answers, within a minute
#        rig.sh stop DIR             end it and everything in it
set -euo pipefail

verb=${1:?start, exec, look, awake or stop}
directory=$(realpath -m "${2:?a directory}")
shift 2

inside() { # the first process of the namespaces
    exec 9>&-
    mount --make-rprivate /
    local place
    for place in /etc/libvirt /var/lib/libvirt /run/libvirt; do
        mkdir -p "$place"
        mount --bind "$directory$place" "$place"
    done
    ip link set lo up
    ip address add 8.8.8.8/32 dev lo
    sysctl -qw net.ipv4.ip_forward=1
    rm -f /run/libvirtd.pid
    # It writes the machines' consoles, as on any Debian.
    /usr/sbin/virtlogd -d -p /run/libvirt/virtlogd.pid
    /usr/sbin/libvirtd -d -f /etc/libvirt/libvirtd.conf
    # Process 1 has to bury the dead: QEMUs that libvirtd has left to it.
    while :; do
        sleep 60 &
        wait $!
    done
}

case $verb in
    start)
        mkdir -p "$directory"/{etc,var/lib,run}/libvirt "$directory/var/lib/libvirt/images"
        cp -rn /etc/libvirt/. "$directory/etc/libvirt/"
        rm -rf "$directory"/etc/libvirt/qemu/networks/autostart
        cat >"$directory/etc/libvirt/libvirtd.conf" <<C
unix_sock_group = "root"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_level = 3
log_outputs = "3:file:$directory/libvirtd.log"
C
        cat >"$directory/etc/libvirt/qemu.conf" <<C
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
C
        export directory
        export -f inside
        setsid unshare --mount --net --pid --fork --kill-child --mount-proc bash -c inside \
            </dev/null >"$directory/rig.log" 2>&1 &
        echo $! >"$directory/pid"
        for _ in $(seq 100); do
            if "$0" exec "$directory" virsh -q -c qemu:///system version >/dev/null 2>&1; then exit 0; fi
            sleep 0.2
        done
        cat "$directory/rig.log" "$directory/libvirtd.log" >&2 2>/dev/null || true
        echo "libvirtd does not start; see $directory/rig.log" >&2
        exit 1
        ;;
    exec)
        # The child of unshare is process 1 of the namespaces.
        init=$(cat "/proc/$(cat "$directory/pid")/task/$(cat "$directory/pid")/children")
        exec nsenter --target "${init%% *}" --mount --net --pid -- "$@"
        ;;
    look)
        for domain in $("$0" exec "$directory" virsh -q list --all --name); do
            echo "$domain: $("$0" exec "$directory" virsh -q domstate --reason "$domain")"
            for _ in 1 2 3; do
                "$0" exec "$directory" timeout 10 virsh -q qemu-monitor-command "$domain" --hmp 'info registers -a' 2>&1 |
                    grep -oE 'CPU#[0-9]+|RIP=[0-9a-f]+|HLT=[01]' | paste -sd' ' || true
                sleep 1
            done
        done
        "$0" exec "$directory" ip neigh
        uptime
        df -h "$directory" | tail -n 1
        ;;
    awake)
        # SysRq's help, which the kernel prints on the console: it takes no network to be seen.
        console=$("$0" exec "$directory" virsh -q dumpxml "${1:?a machine}" |
            sed -n "/<serial /,/<\\/serial>/s/.*<source path='\\([^']*\\)'.*/\\1/p")
        before=$(stat -c %s "$console")
        for _ in $(seq 20); do
            "$0" exec "$directory" virsh -q send-key "$1" KEY_LEFTALT KEY_SYSRQ KEY_H
            sleep 3
            [ "$(stat -c %s "$console")" = "$before" ] || exit 0
        done
        exit 1
        ;;
    stop)
        [ -s "$directory/pid" ] || exit 0
        # unshare ignores a polite request; with it goes its child, and with that everything inside.
        kill -KILL "$(cat "$directory/pid")" 2>/dev/null || true
        rm -f "$directory/pid"
        ;;
esac
