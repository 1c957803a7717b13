#!/usr/bin/env bash
# OVN's northbound and southbound databases and northd, on the controller.
. "$(dirname "$0")/lib.sh"

up ovn-central
until_ok 60 "OVN's northbound database" ovn-nbctl --timeout=2 show
until_ok 60 "OVN's southbound database" ovn-sbctl --timeout=2 show
# Neutron and the chassis come by TCP, on the underlay only. Kept in the databases themselves.
ovn-nbctl set-connection "ptcp:6641:$CONTROLLER_ADDRESS"
ovn-sbctl set-connection "ptcp:6642:$CONTROLLER_ADDRESS"
for option in $OVN_OPTIONS; do
    ovn-nbctl set nb_global . "options:$option"
done
say "OVN $(ovn-nbctl --version | awk 'NR == 1 { print $NF }')"
