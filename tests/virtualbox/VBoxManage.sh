#!/bin/sh
# The `VBoxManage` on the PATH of the rig. It runs the real one, without Debian's wrapper and its
# warning that /dev/vboxdrv is missing. Only `startvm` is helped, for what cannot be had without the
# driver:
#   - the interpreter is chosen as the execution engine, or what $LABCTL_RIG_ENGINE names;
#   - the driverless VirtualBox knows NAT but no internal network: each such adapter is plugged into
#     a VDE switch of the network's name. Before that, the definition as Vagrant made it is written
#     to $LABCTL_RIG_WORK/definitions/NAME, for tests to compare.
# Every call is a line of $LABCTL_RIG_WORK/vboxmanage.log.
set -eu
real=/usr/lib/virtualbox/VBoxManage
printf '%s %s\n' "$(date +%T)" "$*" >>"$LABCTL_RIG_WORK/vboxmanage.log"

help_start() {
    info=$("$real" showvminfo "$1" --machinereadable) || return 0 # startvm will say what is wrong
    case $info in
    *'VMState="poweroff"'* | *'VMState="aborted"'*) ;;
    *) return 0 ;; # a saved one goes on as it was, and must not be changed
    esac
    name=$(printf '%s\n' "$info" | sed -n 's/^name="\(.*\)"$/\1/p')
    mkdir -p "$LABCTL_RIG_WORK/definitions"
    printf '%s\n' "$info" >"$LABCTL_RIG_WORK/definitions/$name"
    "$real" modifyvm "$1" "--vm-execution-engine=${LABCTL_RIG_ENGINE:-interpreter}"
    printf '%s\n' "$info" | sed -n 's/^intnet\([0-9]*\)="\(.*\)"$/\1 \2/p' |
        while read -r number network; do
            switch=/run/vde/$network
            [ -S "$switch/ctl" ] || vde_switch -s "$switch" -d </dev/null
            "$real" modifyvm "$1" "--nic$number" generic "--nic-generic-drv$number" VDE \
                "--nic-property$number" "network=$switch"
        done
}

if [ "${1:-}" = startvm ]; then
    help_start "$2"
fi
exec "$real" "$@"
