#!/usr/bin/env bash
# Makes a Windows of Debian's root file system with wine in it. usage: build.sh ROOT PYTHON LIBRARIES,
# in mount, PID and network namespaces of its own. PYTHON is the directory of the embeddable Python
# of Windows, LIBRARIES that of labctl's dependencies.
set -euo pipefail
root=$1 python=$2 libraries=$3

ip link set lo up
# 32-bit programs of Windows are not needed.
rm -rf "$root"/usr/lib/*/wine/i386-windows
chroot "$root" localedef -i zh_TW -f UTF-8 --no-archive zh_TW.UTF-8
echo '王 小明:x:1000:1000::/home/learner:/bin/sh' >>"$root/etc/passwd"
install -d -o 1000 -g 1000 "$root/home/learner"

mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
wine=(env LC_CTYPE=zh_TW.UTF-8 chroot "$root" /usr/local/bin/wine.sh)
"${wine[@]}" wineboot --init
"${wine[@]}" wineserver --wait

# wine has copied all its libraries; one of each is enough.
for file in "$root"/home/learner/wine/drive_c/windows/system32/*; do
    builtin=$root/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/${file##*/}
    if cmp -s "$builtin" "$file"; then
        ln -f "$builtin" "$file"
    fi
done

# Where python.org's installer puts it, for one user: with the user's name in the path.
home="$root/home/learner/wine/drive_c/users/王 小明/AppData/Local/Programs/Python/Python311"
mkdir -p "$home/Scripts" "$home/Lib"
cp -r "$python/." "$home"
rm "$home"/python*._pth # without it this Python starts as an installed one does
cp -r "$libraries" "$home/Lib/site-packages"
chown -R 1000:1000 "${home%/Programs/*}"
