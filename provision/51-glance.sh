#!/usr/bin/env bash
# Glance: images, as plain files on the controller.
. "$(dirname "$0")/lib.sh"

template glance-api.conf /etc/glance/glance-api.conf root:glance 640
set_ini /etc/glance/glance-api-uwsgi.ini processes 1
order_after glance-api
up glance-api
until_ok 120 "Glance on port 9292" port_open "$CONTROLLER_ADDRESS" 9292
say "Glance answers"
