#!/usr/bin/env bash
# A client out on the Internet has one card and one address, and nothing of the lab on it. A unit
# sets the address at each boot.
. "$(dirname "$0")/lib.sh"

settings client.env /etc/labctl/network.env root:root 644
verbatim labctl-client /usr/local/sbin/labctl-network root:root 755
verbatim labctl-client.service /etc/systemd/system/labctl-network.service root:root 644
printf 'auto lo\niface lo inet loopback\n' >/etc/network/interfaces
systemctl daemon-reload
systemctl enable --quiet labctl-network
verb=start
[ "$CHANGED" = no ] || verb=restart
running "$verb" labctl-network ||
    die "labctl-network, which sets this client's address, failed; its last words are above"
ip -br addr
