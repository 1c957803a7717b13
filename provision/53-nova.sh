#!/usr/bin/env bash
# Nova's control plane: API, metadata API, conductor, scheduler.
. "$(dirname "$0")/lib.sh"

template nova-controller.conf /etc/nova/nova.conf root:nova 640
set_ini /etc/nova/nova-api-uwsgi.ini processes 1
set_ini /etc/nova/nova-api-metadata-uwsgi.ini processes 1
order_after nova-api nova-api-metadata nova-conductor nova-scheduler
up nova-api nova-api-metadata nova-conductor nova-scheduler
until_ok 180 "Nova on port 8774" port_open "$CONTROLLER_ADDRESS" 8774
# nova-compute asks the conductor at its start, and waits ten seconds if there is none yet.
until_ok 180 "nova-conductor" systemctl --quiet is-active nova-conductor
say "Nova answers"
