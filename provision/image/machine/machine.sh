#!/usr/bin/env bash
# Makes the system of a box that of a machine with labctl and a lab inside, for `labctl class image`.
# usage: machine.sh LAYER..., once, inside the image (enter.sh). /run/in/site has labctl and its
# libraries, /run/in/lab the lab. LAYER are directories of labctl's cache that the disk will have.
. "$(dirname "$0")/../../lib.sh"
files=$PROVISION/image/machine/files

# put FILE TARGET [MODE]
put() { install -D -m "${3:-644}" "$files/$1" "$2"; }

printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d # nothing may start
chmod 755 /usr/sbin/policy-rc.d
mapfile -t wanted < <(packages_of "$PROVISION/packages/machine.list")
apt-get update -q
apt-get install -qy --no-install-recommends -o Dpkg::Options::=--force-confold "${wanted[@]}"
bash "$PROVISION/12-quiet.sh" # again, for what these packages enabled

say "labctl and its libraries"
python3 -I -m venv --without-pip /opt/labctl/venv
cp -r /run/in/site/. "$(echo /opt/labctl/venv/lib/python3.*/site-packages)/"
put labctl /opt/labctl/venv/bin/labctl 755
ln -sfn /opt/labctl/venv/bin/labctl /usr/local/bin/labctl
python3 -I -m compileall -q -j 0 /opt/labctl/venv/lib || : # a library may bring files of other Pythons
/usr/local/bin/labctl --version

# Vagrant's user has a password and a key that everybody knows.
userdel --remove vagrant 2>/dev/null || :
rm -f /etc/sudoers.d/vagrant
! id vagrant 2>/dev/null || die "the user vagrant is still there"

cp -r --no-preserve=ownership /run/in/lab /srv/lab
chmod 755 /srv/lab
chmod 700 /srv/lab/.labctl
install -d -m 700 /var/cache/labctl
for layer in "$@"; do mkdir -p "/var/cache/labctl/$layer"; done

mkdir -p /var/lib/labctl
touch /var/lib/labctl/first-boot /var/lib/labctl/first-start
put labctl-keys.service /etc/systemd/system/labctl-keys.service
put labctl-lab.service /etc/systemd/system/labctl-lab.service
put cloud.cfg /etc/cloud/cloud.cfg.d/90-labctl.cfg
systemctl enable --quiet labctl-keys labctl-lab

# Identity belongs to a machine, not to an image.
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /usr/sbin/policy-rc.d
: >/etc/machine-id
: >/etc/resolv.conf
rm -rf /var/lib/cloud/* /var/log/journal/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
