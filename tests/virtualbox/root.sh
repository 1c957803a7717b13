#!/bin/sh
# mmdebstrap's customize hook (ROOT SOURCE): Vagrant and VirtualBox of Debian sid, side by side and
# without a kernel driver. SOURCE is the directory of this script.
set -eu
root=$1 source=$2
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # nothing may start
chmod 755 "$root/usr/sbin/policy-rc.d"

# VirtualBox wants its kernel modules or dkms with a compiler and kernel headers; the driverless
# interpreter wants neither. A package that has nothing in it says they are there.
mkdir -p "$root/build/modules/DEBIAN"
cat >"$root/build/modules/DEBIAN/control" <<'END'
Package: labctl-no-virtualbox-modules
Version: 1
Architecture: all
Provides: virtualbox-modules
Maintainer: the labctl authors <root@localhost>
Description: stands for the kernel modules that a driverless VirtualBox does without
END
cp "$source/launcher.c" "$root/build/"

cat >"$root/build/install.sh" <<'END'
#!/bin/sh
set -eu
cd /build
dpkg-deb --root-owner-group -b modules modules.deb
# Debian's vagrant 2.3.7 says it breaks VirtualBox 7.1 and newer, because its newest driver is that
# of 7.0. The rig's vagrant-home.rb gives 7.2 to that driver, so the two may stand side by side.
chown _apt .
apt-get download -q vagrant
dpkg-deb -R vagrant_*.deb vagrant
sed -i '/^Breaks:/d; s/^Version: .*/&+labctl/' vagrant/DEBIAN/control
dpkg-deb --root-owner-group -b vagrant vagrant.deb
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
    ./modules.deb virtualbox ./vagrant.deb
gcc -Wall -Wextra -Werror -O2 -o VBoxHeadless launcher.c
rm /usr/lib/virtualbox/VBoxHeadless # a setuid file is replaced, not written into
install -m 755 VBoxHeadless /usr/lib/virtualbox/VBoxHeadless
END
chroot "$root" sh /build/install.sh
rm -rf "$root/build"
