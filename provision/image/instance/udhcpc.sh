#!/bin/sh
# shellcheck disable=SC2154 # udhcpc sets these variables
# udhcpc's callback: address, MTU, default and classless routes (the metadata service), DNS, name.
case $1 in bound | renew)
    # IPv6 has addresses of its own, which no DHCP gave: one of link scope is there before the first lease.
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    [ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
    for gateway in $router; do ip route replace default via "$gateway" dev "$interface"; done
    # shellcheck disable=SC2086
    set -- $staticroutes
    while [ -n "$2" ]; do
        if [ "$1" != 0.0.0.0/0 ]; then
            if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface"; else ip route replace "$1" via "$2" dev "$interface"; fi
        fi
        shift 2
    done
    : >/etc/resolv.conf
    # shellcheck disable=SC2154
    [ -z "${search:-$domain}" ] || echo "search ${search:-$domain}" >>/etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
    ;;
esac
exit 0
