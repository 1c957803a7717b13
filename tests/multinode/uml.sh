#!/bin/bash
# Runs a command on another kernel: User Mode Linux, Debian's package user-mode-linux, which has Open
# vSwitch's datapath, Geneve, VXLAN and VLANs where this machine's kernel lacks them. It needs no
# virtualization. The command sees this machine's files; what it writes is gone afterwards, except in
# KEPT. DISK is an empty directory for it, on a file system that overlayfs can write to.
#
# usage: uml.sh WORK KEPT DISK COMMAND…     WORK keeps the kernel, and the disk while it runs
# Its exit status is the command's, 125 if the kernel ended without one.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
work=$(realpath "${1:?a directory}") kept=$(realpath "${2:?a directory}") disk=$(realpath "${3:?a directory}")
shift 3

if [ ! -x "$work/uml/usr/bin/linux.uml" ]; then
    mkdir -p "$work/uml"
    (cd "$work/uml" && apt-get --quiet=2 --option APT::Sandbox::User=root download user-mode-linux)
    dpkg --extract "$work"/uml/user-mode-linux_*.deb "$work/uml"
    mkdir -p "$work/uml/lib"
    ln -sfn ../usr/lib/uml/modules "$work/uml/lib/modules"
fi
rm -f "$kept/status" "$work/uml.img"
truncate --size=8G "$work/uml.img"
/sbin/mkfs.ext4 -q -F "$work/uml.img"
{
    printf 'work=%q kept=%q disk=%q directory=%q path=%q\n' "$work" "$kept" "$disk" "$PWD" "$PATH"
    printf 'command=('
    printf ' %q' "$@"
    printf ' )\n'
} >"$work/uml.job"
# Its memory is a file in TMPDIR.
# Not at addresses of chance: with them it hangs at its start on some kernels (6.18).
TMPDIR=/dev/shm setarch --addr-no-randomize "$work/uml/usr/bin/linux.uml" mem=6G root=/dev/root rootfstype=hostfs rootflags=/ ro \
    ubd0="$work/uml.img" init="$here/uml-init.sh" UML_JOB="$work/uml.job" \
    con0=null,fd:1 con=null </dev/null 2>&1 | cat || true # a console is a pipe: it polls
rm -f "$work/uml.img"
[ -s "$kept/status" ] || exit 125
exit "$(cat "$kept/status")"
