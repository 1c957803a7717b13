#!/bin/bash
# On a node: what OVN's multinode tests take for granted and a lab has otherwise. They were written
# for the containers of ovn-fake-multinode. May be run again.
set -euo pipefail

# They delete the northbound database as /etc/ovn/ovnnb_db.db; Debian has it in /var/lib.
if [ ! -L /etc/ovn ]; then
    rmdir /etc/ovn
    ln -s /var/lib/ovn /etc/ovn
fi

# eth2 of every node is the physical network `public`, behind br-ex; a gateway's br-ex has eth0 here.
datapath=$(ovs-vsctl get bridge br-int datapath_type)
ovs-vsctl --may-exist add-br br-ex -- set bridge br-ex datapath_type="$datapath" \
    -- --if-exists del-port br-ex eth0 -- --may-exist add-port br-ex eth2
ip link set eth2 up
ovs-vsctl set open . external_ids:ovn-bridge-mappings=public:br-ex \
    external_ids:ovn-openflow-probe-interval=60 external_ids:ovn-remote-probe-interval=180000

# They stop and start the daemons by ovn-ctl, so they have to be ovn-ctl's: systemd would start its
# own again beside them.
if [ -e /var/lib/ovn/ovnsb_db.db ]; then
    systemctl stop ovn-central ovn-northd ovn-ovsdb-server-nb ovn-ovsdb-server-sb
    /usr/share/ovn/scripts/ovn-ctl start_northd
    ovn-sbctl set connection . inactivity_probe=180000
fi
