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
settings network.env /etc/labctl/network.env root:root 644
verbatim labctl-network /usr/local/sbin/labctl-network root:root 755
verbatim labctl-network.service /etc/systemd/system/labctl-network.service root:root 644

if systemd-detect-virt --quiet --container; then
    printf 'auto lo\niface lo inet loopback\n' >/etc/network/interfaces 2>/dev/null || true
else
    # A machine: its cards are named after their addresses, and nobody else configures them. (They
    # may have other names now; labctl-network sets that right, without waiting for a boot.)
    NIC=eth0 MAC=$ETH0_MAC template nic.link /etc/systemd/network/10-labctl-eth0.link root:root 644
    NIC=eth1 MAC=$ETH1_MAC template nic.link /etc/systemd/network/10-labctl-eth1.link root:root 644
    while read -r nic mac _; do
        [ -z "$nic" ] || NIC=$nic MAC=$mac template nic.link "/etc/systemd/network/10-labctl-$nic.link" root:root 644
    done <<<"$EXTRA_NICS"
    if [ -d /etc/netplan ]; then rm -f /etc/netplan/*.yaml; fi
    if [ -d /etc/cloud ]; then touch /etc/cloud/cloud-init.disabled; fi
    printf 'auto lo\niface lo inet loopback\n' >/etc/network/interfaces
    rm -f /etc/network/interfaces.d/*
    for unit in systemd-networkd.socket systemd-networkd NetworkManager systemd-resolved dhcpcd; do
        systemctl disable --quiet --now "$unit" 2>/dev/null || true
    done
    # By force: a DHCP client that is asked to end gives the address back, and SSH with it.
    pkill -KILL -x 'dhclient|dhcpcd|udhcpc' || true
    if [ -n "$RESOLVER" ]; then
        rm -f /etc/resolv.conf # a link to what a resolver wrote
        echo "nameserver $RESOLVER" >/etc/resolv.conf
    fi
fi

systemctl daemon-reload
systemctl enable --quiet openvswitch-switch labctl-network
running start openvswitch-switch || die "Open vSwitch did not start; its last words are above"
if [ "$HAS_BR_EX" = yes ] && ! ip -4 -o addr show dev br-ex 2>/dev/null | grep -qF " $ETH0_ADDRESS "; then
    # The session that runs this may come by eth0. Unless labctl comes back and says "keep" the
    # address goes back to where it was.
    systemctl stop labctl-rollback.timer 2>/dev/null || true
    touch /run/labctl-network.pending
    systemd-run --quiet --collect --unit=labctl-rollback --on-active="$((60 * PATIENCE))" \
        /usr/local/sbin/labctl-network rollback
    CHANGED=yes # what has once been started would not be again
fi
verb=start
[ "$CHANGED" = no ] || verb=restart
running "$verb" labctl-network ||
    die "labctl-network, which sets this node's bridges and addresses, failed; its last words are above"
say "Open vSwitch $(ovs-vsctl get open . ovs_version), datapath $DATAPATH"
ip -br addr
