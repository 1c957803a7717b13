#!/usr/bin/env bash
# Packages of this node's roles, from Debian 13. In the baked image they are there already. Without
# OpenStack (stack: ovn) a node needs Open vSwitch and OVN, and nothing else.
. "$(dirname "$0")/lib.sh"

lists=("$PROVISION/packages/base.list")
has_role controller && lists+=("$PROVISION/packages/ovn-central.list")
if [ "$LAB_STACK" = openstack ]; then
    has_role controller && lists+=("$PROVISION/packages/controller.list")
    has_role compute && lists+=("$PROVISION/packages/compute.list")
fi
mapfile -t wanted < <(packages_of "${lists[@]}")

mapfile -t missing < <(
    comm -13 <(dpkg-query -Wf '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii  *//p' | sort) \
        <(printf '%s\n' "${wanted[@]}" | sort)
)
if [ "${#missing[@]}" -eq 0 ]; then
    say "all ${#wanted[@]} packages are installed"
    exit 0
fi

# Nothing may start before its own script has configured it.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
trap 'rm -f /usr/sbin/policy-rc.d' EXIT
debconf-set-selections <"$PROVISION/files/debconf.seed"
apt-get update -q
apt-get install -qy --no-install-recommends "${missing[@]}"
bash "$PROVISION/12-quiet.sh"
