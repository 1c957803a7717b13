#!/bin/sh
# A workload as OVN's tests ask for it: a namespace with a card, whose other end is a port of br-int.
# What cannot be done is left out: some calls give no IPv6 address, or a gateway that is elsewhere.
# usage: create_fake_vm.sh LOGICAL_PORT NAME MAC MTU ADDRESS LENGTH GATEWAY [ADDRESS6/LENGTH GATEWAY6]
port=$1 name=$2 mac=$3 mtu=$4 address=$5 length=$6 gateway=$7 address6=${8-} gateway6=${9-}

ip netns add "$name"
ip link add "$name-p" type veth peer name "$name" netns "$name"
ip link set "$name-p" up
# Checksums: OVS in user space hands on frames as they are, with sums that a card would have made.
# The kernel's needs this not, and may lack it.
[ "$(ovs-vsctl get bridge br-int datapath_type)" != netdev ] ||
    ip netns exec "$name" ethtool --offload "$name" tx off >/dev/null 2>&1
ovs-vsctl add-port br-int "$name-p" -- set interface "$name-p" external_ids:iface-id="$port"
inside() { ip -n "$name" "$@"; }
inside link set lo up
inside link set "$name" address "$mac" mtu "$mtu"
inside address add "$address/$length" dev "$name"
[ -z "$address6" ] || inside address add "$address6" dev "$name" nodad
inside link set "$name" up
inside route add default via "$gateway" dev "$name"
[ -z "$gateway6" ] || inside -6 route add default via "$gateway6" dev "$name" || true
