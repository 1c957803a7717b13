#!/bin/sh
# Makes the rig's root one that boots: a laptop with Linux, VirtualBox and its kernel driver.
# usage: laptop.sh ROOT SOURCE KEY, in a mount and PID namespace of its own. SOURCE is the directory
# of this script, KEY the public key that root's login takes.
set -eu
root=$1 source=$2 key=$3
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
rm -f "$root/etc/resolv.conf"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # nothing may start
chmod 755 "$root/usr/sbin/policy-rc.d"
packages=$(sed 's/#.*//' "$source/laptop.list" | xargs)

cat >"$root/tmp/install.sh" <<'END'
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
apt() { apt-get -qy --no-install-recommends -o Dpkg::Options::=--force-unsafe-io "$@"; }
apt-get -q -o Acquire::Check-Valid-Until=false update
# shellcheck disable=SC2086 # a list
apt install $packages
# The rig has put its own program in the place of VBoxHeadless; here the real one can run.
apt install --reinstall virtualbox
# A laptop's module must be there: dkms goes on without it when the compiler fails.
ls /lib/modules/*/updates/dkms/vboxdrv.ko*
cd /etc/systemd/system
for unit in man-db.timer apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer \
    dpkg-db-backup.timer systemd-pstore.service systemd-binfmt.service e2scrub_reap.service; do
    ln -sfn /dev/null "$unit"
done
ln -sfn /usr/lib/systemd/system/multi-user.target default.target
systemctl enable --quiet systemd-networkd ssh
pam-auth-update --disable systemd
rm /usr/sbin/policy-rc.d
apt-get clean
END
chroot "$root" env "packages=$packages" sh /tmp/install.sh

printf '/dev/vda / ext4 noatime 0 0\n' >"$root/etc/fstab"
printf 'laptop\n' >"$root/etc/hostname"
printf '127.0.0.1 localhost laptop\n' >"$root/etc/hosts"
: >"$root/etc/resolv.conf"
printf '[Match]\nName=eth0\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/10-eth0.network"
# The Internet that the lab's NAT reaches. QEMU lets nothing out (restrict=on).
printf '[Match]\nName=lo\n[Network]\nAddress=8.8.8.8/32\n' >"$root/etc/systemd/network/10-lo.network"
# VirtualBox's NAT sends pings by ping sockets, which systemd opens to everybody on most systems.
printf 'net.ipv4.ping_group_range = 0 2147483647\n' >"$root/etc/sysctl.d/ping.conf"
printf 'vboxdrv\nvboxnetflt\nvboxnetadp\n' >"$root/etc/modules-load.d/virtualbox.conf"
install -d -m 700 "$root/root/.ssh" "$root/root/.vagrant.d"
install -m 600 "$key" "$root/root/.ssh/authorized_keys"
cp "$source/vagrant-home.rb" "$root/root/.vagrant.d/Vagrantfile"
mkdir -p "$root/opt/carried" "$root/run/work"
cat >"$root/usr/local/bin/labctl" <<'END'
#!/bin/sh
PYTHONPATH=/opt/carried/labctl:/opt/carried/libraries exec python3 -m labctl "$@"
END
chmod 755 "$root/usr/local/bin/labctl"
# Else the first boot looks at all of /usr.
touch "$root/etc/.updated" "$root/var/.updated"
rm -rf "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/*
