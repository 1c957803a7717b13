#!/usr/bin/env bash
# Makes a running machine of Debian's cloud image what every node of a lab starts from: all packages,
# the instance image, the database schemas, and nobody's identity. Then it powers the machine off.
# usage: make.sh VERSION, as root, once, in a machine that labctl has logged in to
. "$(dirname "$0")/../../lib.sh"
box=$PROVISION/image/box
version=$1

# put FILE TARGET [MODE]
put() { install -D -m "${3:-644}" "$box/files/$1" "$2"; }

# A node of this box may get any role of any lab.
printf 'NODE_ROLES="controller gateway compute"\nLAB_STACK=openstack\n' >>/etc/labctl/lab.env
bash "$PROVISION/10-packages.sh"
say "instance image and database schemas"
bash "$PROVISION/image/bake.sh" openstack

# cloud-init has done its work, and would take the next machine for a new one; what it wrote names
# this machine's network card.
touch /etc/cloud/cloud-init.disabled
rm -rf /var/lib/cloud /etc/netplan/*.yaml /run/systemd/network/*
# VirtualBox's first card; by its old name too, in case the boot loader is not Debian's.
printf '[Match]\nName=eth0 enp0s3\n[Network]\nDHCP=ipv4\n' >/etc/systemd/network/20-labctl-box.network
systemctl enable --quiet systemd-networkd ssh
if command -v update-grub >/dev/null; then
    mkdir -p /etc/default/grub.d
    # shellcheck disable=SC2016 # grub-mkconfig fills it in
    echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX net.ifnames=0 biosdevname=0 mitigations=off systemd.ssh_auto=no"' \
        >/etc/default/grub.d/90-labctl.cfg
    update-grub
fi
put labctl-host-keys.service /etc/systemd/system/labctl-host-keys.service
put sudoers /etc/sudoers.d/vagrant 440
put sshd.conf /etc/ssh/sshd_config.d/labctl-box.conf
systemctl enable --quiet labctl-host-keys
pam-auth-update --disable systemd || true # see box/system.sh

# As new: Vagrant's published key is let in, and the lab's own is not.
grep -v '^#' "$box/files/vagrant.pub" >/home/vagrant/.ssh/authorized_keys
chown vagrant: /home/vagrant/.ssh/authorized_keys
chmod 600 /home/vagrant/.ssh/authorized_keys
rm -f /root/.ssh/authorized_keys /etc/ssh/sshd_config.d/00-labctl.conf
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /etc/labctl/lab.env /etc/labctl/inputs
rm -rf /var/lib/labctl/done
echo labctl-lab >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 labctl-lab\n::1 localhost ip6-localhost ip6-loopback\n' >/etc/hosts
echo "$version" >/etc/labctl/box
: >/etc/machine-id
rm -rf /var/log/journal/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
sync
say "sealed"
# Later: the SSH session by which this runs is to end first.
systemd-run --quiet --collect --on-active=3 systemctl poweroff
