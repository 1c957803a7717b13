#!/usr/bin/env bash
# Runs a command on a machine that runs programs for arm64, too: by QEMU's user mode, for as long as
# the command runs. binfmt_misc is mounted in a mount namespace of its own; the setting in it is the
# kernel's, and taken out again if it was not there before.
# usage: emulated.sh COMMAND…      as root; needs qemu-aarch64-static
set -euo pipefail

if [ "$1" != --inside ]; then
    exec unshare --mount --propagation slave "$0" --inside "$@"
fi
shift
where=/proc/sys/fs/binfmt_misc
mountpoint -q "$where" || mount -t binfmt_misc binfmt_misc "$where"
for known in qemu-aarch64 labctl-aarch64; do
    [ ! -e "$where/$known" ] || exec "$@"
done
# The start of an ELF file for AArch64, and which bits of it count. F: the emulator is opened now, and
# is there inside a chroot, too.
start='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
emulator=$(command -v qemu-aarch64-static qemu-aarch64 | head -n 1)
echo ":labctl-aarch64:M::$start:$mask:$emulator:F" >"$where/register"
trap 'echo -1 >"$where/labctl-aarch64"' EXIT
"$@"
