#!/usr/bin/env bash
# ovn-controller makes this node a chassis.
. "$(dirname "$0")/lib.sh"

order_after ovn-controller
up ovn-host ovn-controller
connected() { [ "$(ovn-appctl --timeout=2 -t ovn-controller connection-status)" = connected ]; }
until_ok 60 "ovn-controller to reach the southbound database at $CONTROLLER_ADDRESS:6642" connected
say "chassis $NODE_NAME is connected"
