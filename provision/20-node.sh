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

verbatim journald.conf /etc/systemd/journald.conf.d/labctl.conf root:root 644
START_SECONDS=$((90 * PATIENCE))
export START_SECONDS
template system.conf /etc/systemd/system.conf.d/labctl.conf root:root 644
say "$NODE_NAME ($NODE_ROLES)"
