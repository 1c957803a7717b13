#!/usr/bin/env bash
# Without OpenStack, lessons make their workloads by hand: a network namespace with a port of br-int in
# it. Open vSwitch remembers the port; a unit puts the namespace back at each boot.
. "$(dirname "$0")/lib.sh"

verbatim labctl-workloads /usr/local/sbin/labctl-workloads root:root 755
verbatim labctl-workloads.service /etc/systemd/system/labctl-workloads.service root:root 644
systemctl daemon-reload
up labctl-workloads
say "workloads come back at each boot"
