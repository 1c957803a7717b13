#!/usr/bin/env bash
# Open vSwitch, its bridges, and the node's addresses on them. The bridges live in OVS's own
# database; addresses do not, so a unit sets them at each boot, before anything that needs them.
. "$(dirname "$0")/lib.sh"

# The kernel datapath where the host's kernel has it (a container sees the host's), else OVS's own
# datapath in user space: slower, and the same OpenFlow, the same Geneve.
modprobe -q openvswitch 2>/dev/null || true
modprobe -q geneve 2>/dev/null || true
if [ -d /sys/module/openvswitch ] && [ -d /sys/module/geneve ]; then DATAPATH=system; else DATAPATH=netdev; fi
export DATAPATH

mkdir -p /etc/openvswitch
echo "$NODE_NAME" >/etc/openvswitch/system-id.conf
template network.env /etc/labctl/network.env root:root 644
verbatim labctl-network /usr/local/sbin/labctl-network root:root 755
verbatim labctl-network.service /etc/systemd/system/labctl-network.service root:root 644
printf 'auto lo\niface lo inet loopback\n' >/etc/network/interfaces 2>/dev/null || true
systemctl daemon-reload
systemctl enable --quiet openvswitch-switch labctl-network
systemctl start openvswitch-switch
if [ "$CHANGED" = yes ]; then systemctl restart labctl-network; else systemctl start labctl-network; fi
say "Open vSwitch $(ovs-vsctl get open . ovs_version), datapath $DATAPATH"
ip -br addr
