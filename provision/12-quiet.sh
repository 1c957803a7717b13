#!/usr/bin/env bash
# Everything that packages enabled is switched off: a service runs when its own script says so.
. "$(dirname "$0")/lib.sh"

keep='ssh.service|remote-fs.target|machines.target|networking.service|getty.*|systemd-.*|dbus.*|labctl.*'
cd /etc/systemd/system
for wants in multi-user.target.wants sockets.target.wants timers.target.wants sysinit.target.wants; do
    [ -d "$wants" ] || continue
    for link in "$wants"/*; do
        unit=${link##*/}
        [ -L "$link" ] || continue
        [[ $unit =~ ^($keep)$ ]] || rm -f "$link"
    done
done
# Started by other units, and of no use in a lab.
for unit in e2scrub_reap.service iscsid.socket iscsid.service open-iscsi.service uuidd.socket \
    neutron-rpc-server.service libvirt-guests.service apt-daily.timer apt-daily-upgrade.timer; do
    ln -sfn /dev/null "$unit"
done
# Wanted by the units of other services, which would start them on every node and unconfigured.
# `up` in lib.sh takes the mask off where the service belongs.
for unit in mariadb.service rabbitmq-server.service keystone.service libvirtd.service; do
    [ -e "/usr/lib/systemd/system/$unit" ] && ln -sfn /dev/null "$unit"
done
rm -f mysql.service mysqld.service # aliases that would get round the mask
# An init script without a unit: systemd makes one up, and starts it on every node, unconfigured.
if [ -e /etc/init.d/neutron-ovn-maintenance-worker ]; then
    update-rc.d neutron-ovn-maintenance-worker disable
fi
