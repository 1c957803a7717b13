#!/usr/bin/env bash
# The tables of every service, at the version of its installed package. Takes a minute of pure
# computing, the same in every lab, and holds no secret: so the baked image has run it already.
# Needs a MariaDB that lets root in by its socket.
. "$(dirname "$0")/lib.sh"

stamps=/var/lib/labctl/schema
mkdir -p "$stamps"
socket=/run/mysqld/mysqld.sock

# current STAMP PACKAGE: were the tables made by this very version of the package?
current() { [ "$(cat "$stamps/$1" 2>/dev/null)" = "$(dpkg-query -Wf '${Version}' "$2")" ]; }
made() { dpkg-query -Wf '${Version}' "$2" >"$stamps/$1"; }
url() { echo "mysql+pymysql://root@localhost/$1?unix_socket=$socket"; }
config() { # config DATABASE SECTION: a configuration that knows its database and nothing else
    printf '[DEFAULT]\nlog_dir =\nuse_stderr = true\n[%s]\nconnection = %s\n' "$2" "$(url "$1")" >"$work/$1.conf"
    echo "$work/$1.conf"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

keystone_schema() {
    current keystone keystone && return
    keystone-manage --config-file "$(config keystone database)" db_sync
    made keystone keystone
}
glance_schema() {
    current glance glance-common && return
    glance-manage --config-file "$(config glance database)" db_sync
    made glance glance-common
}
placement_schema() {
    current placement placement-common && return
    placement-manage --config-file "$(config placement placement_database)" db sync
    made placement placement-common
}
neutron_schema() {
    current neutron neutron-common && return
    neutron-db-manage --config-file "$(config neutron database)" upgrade head
    made neutron neutron-common
}
nova_schema() {
    current nova nova-common && return
    local both=$work/nova_both.conf cell0
    {
        cat "$(config nova_api api_database)"
        # create_cell checks that its template can be filled in; this bus is never used.
        printf '[DEFAULT]\ntransport_url = rabbit://nobody:none@localhost:5672/\n'
        printf '[database]\nconnection = %s\n' "$(url nova)"
    } >"$both"
    nova-manage --config-file "$(config nova_cell0 database)" --config-file "$work/nova_api.conf" db sync --local_cell &
    cell0=$!
    nova-manage --config-file "$both" api_db sync
    nova-manage --config-file "$both" db sync --local_cell
    wait "$cell0"
    # The cells name no password: nova fills these templates in from its own nova.conf.
    nova-manage --config-file "$both" cell_v2 map_cell0 \
        --database_connection '{scheme}://{username}:{password}@{hostname}:{port}/nova_cell0?{query}'
    nova-manage --config-file "$both" cell_v2 list_cells | grep -q ' cell1 ' ||
        nova-manage --config-file "$both" cell_v2 create_cell --name cell1 \
            --transport-url '{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}' \
            --database_connection '{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}'
    made nova nova-common
}

for database in keystone glance placement neutron nova nova_api nova_cell0; do
    mariadb -e "CREATE DATABASE IF NOT EXISTS $database CHARACTER SET utf8mb3"
done
# Not "( ... ) || ...": that would switch `set -e` off inside the functions.
declare -A running
for service in keystone glance placement neutron nova; do
    ("${service}_schema" >"$work/$service.log" 2>&1) &
    running[$service]=$!
done
failed=()
for service in "${!running[@]}"; do
    wait "${running[$service]}" || {
        failed+=("$service")
        tail -n 20 "$work/$service.log" >&2
    }
done
[ "${#failed[@]}" -eq 0 ] || die "no database schema for: ${failed[*]}"
say "schemas are at the versions of the installed packages"
