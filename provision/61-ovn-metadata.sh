#!/usr/bin/env bash
# The metadata agent: 169.254.169.254 for the instances of this chassis.
. "$(dirname "$0")/lib.sh"

verbatim neutron-metadata.conf /etc/neutron/neutron.conf root:neutron 640
template neutron_ovn_metadata_agent.ini /etc/neutron/neutron_ovn_metadata_agent.ini root:neutron 640
order_after neutron-ovn-metadata-agent
up neutron-ovn-metadata-agent
say "metadata agent starts"
