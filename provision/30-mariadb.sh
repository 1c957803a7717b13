#!/usr/bin/env bash
# MariaDB for the control plane, on the loopback interface only.
. "$(dirname "$0")/lib.sh"

verbatim mariadb.cnf /etc/mysql/mariadb.conf.d/99-labctl.cnf root:root 644
verbatim mariadb-dropin.conf /etc/systemd/system/mariadb.service.d/labctl.conf root:root 644
systemctl daemon-reload
up mariadb
until_ok 90 "MariaDB to accept connections" mariadb -e 'select 1'
bash "$PROVISION/17-schema.sh"
for user in keystone glance placement neutron nova; do
    printf "CREATE OR REPLACE USER '%s'@'127.0.0.1' IDENTIFIED BY '%s';\n" "$user" "$SECRET_DATABASE"
done | mariadb
for database in keystone glance placement neutron nova nova_api nova_cell0; do
    printf "GRANT ALL ON %s.* TO '%s'@'127.0.0.1';\n" "$database" "${database%%_*}"
done | mariadb
say "MariaDB $(mariadb -Ne 'select version()')"
