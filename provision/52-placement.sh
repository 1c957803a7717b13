#!/usr/bin/env bash
# Placement: which hypervisor has room.
. "$(dirname "$0")/lib.sh"

template placement.conf /etc/placement/placement.conf root:placement 640
set_ini /etc/placement/placement-api-uwsgi.ini processes 1
set_ini /etc/placement/placement-api-uwsgi.ini threads 4
order_after placement-api
up placement-api
until_ok 120 "Placement on port 8778" port_open "$CONTROLLER_ADDRESS" 8778
say "Placement answers"
