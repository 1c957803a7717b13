#!/usr/bin/env bash
# Neutron's API with ML2/OVN: what it stores becomes rows of OVN's northbound database.
. "$(dirname "$0")/lib.sh"

template neutron.conf /etc/neutron/neutron.conf root:neutron 640
template ml2_conf.ini /etc/neutron/plugins/ml2/ml2_conf.ini root:neutron 640
set_ini /etc/neutron/neutron-api-uwsgi.ini processes 1
# The OVN driver's database connection lives in a thread of its own.
set_ini /etc/neutron/neutron-api-uwsgi.ini enable-threads true
order_after neutron-api neutron-ovn-maintenance-worker
up neutron-api neutron-ovn-maintenance-worker
until_ok 180 "Neutron on port 9696" port_open "$CONTROLLER_ADDRESS" 9696
say "Neutron answers"
