#!/usr/bin/env bash
# Runs once inside the fresh root file system (all packages installed, nothing running): what every
# lab would compute alike is computed here. No secret and no address goes into the image.
# usage: bake.sh openstack | ovn, the stack of the labs that it is for.
. "$(dirname "$0")/../lib.sh"

bash "$PROVISION/12-quiet.sh"
if [ "$1" = openstack ]; then
    bash "$PROVISION/15-instance-image.sh"
    install -d -o mysql -g mysql /run/mysqld
    mariadbd --user=mysql --skip-networking --innodb-flush-log-at-trx-commit=0 --innodb-log-file-size=16M --socket=/run/mysqld/mysqld.sock >/tmp/mariadb.log 2>&1 &
    server=$!
    until_ok 60 "MariaDB (see /tmp/mariadb.log in the image)" mariadb -e 'select 1'
    bash "$PROVISION/17-schema.sh"
    mariadb-admin shutdown
    wait "$server"
fi

# Identity belongs to a node, not to an image.
rm -f /etc/ssh/ssh_host_* /etc/openvswitch/conf.db /etc/openvswitch/system-id.conf /var/lib/openvswitch/conf.db
rm -f /var/lib/rabbitmq/.erlang.cookie /etc/iscsi/initiatorname.iscsi
rm -f /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/nova/compute_id
# From the first boot on the journal is in memory (20-node.sh installs the same file).
verbatim journald.conf /etc/systemd/journald.conf.d/labctl.conf root:root 644
: >/etc/machine-id
rm -rf /var/log/*/* /tmp/* /var/cache/apt/archives/*.deb
say baked
