#!/usr/bin/env bash
# Who this node is: host name, the names of its peers, a journal that stays small.
. "$(dirname "$0")/lib.sh"

echo "$NODE_NAME" >/etc/hostname
[ "$(hostname)" = "$NODE_NAME" ] || hostname "$NODE_NAME"
{
    printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n'
    # HOSTS is "ADDRESS NAME" per line: every node by its eth1 address, the underlay.
    printf '%s\n' "$HOSTS"
} >/etc/hosts.new
mv /etc/hosts.new /etc/hosts
[ -s /etc/machine-id ] || systemd-machine-id-setup
# The name of a node as iSCSI initiator, which nova-compute reports; the image has none.
if [ -d /etc/iscsi ] && [ ! -s /etc/iscsi/initiatorname.iscsi ]; then
    (umask 077 && echo "InitiatorName=$(iscsi-iname)" >/etc/iscsi/initiatorname.iscsi)
fi

verbatim journald.conf /etc/systemd/journald.conf.d/labctl.conf root:root 644
if [ "$CHANGED" = yes ] || [ -n "$(ls -A /var/log/journal 2>/dev/null)" ]; then
    # It has read its configuration before this file was there, and keeps its journal on the disk.
    systemctl restart systemd-journald
    rm -rf /var/log/journal/*
fi
START_SECONDS=$((90 * PATIENCE))
export START_SECONDS
template system.conf /etc/systemd/system.conf.d/labctl.conf root:root 644
say "$NODE_NAME ($NODE_ROLES)"
