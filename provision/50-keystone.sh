#!/usr/bin/env bash
# Keystone: identity, and the catalogue in which the other services are found.
. "$(dirname "$0")/lib.sh"

template keystone.conf /etc/keystone/keystone.conf root:keystone 640
ini=/etc/keystone/keystone-uwsgi.ini
set_ini "$ini" processes 1
set_ini "$ini" threads 4
# No AppArmor inside a container.
sed -i 's/^plugins = python3,apparmor/plugins = python3/; /^apparmor-profile/d' "$ini"
# Keys of this lab: what keystone-manage fernet_setup and credential_setup write, without starting
# Python twice. "0" is the staged key, "1" the primary one.
for directory in fernet-keys credential-keys; do
    install -d -m 700 -o keystone -g keystone "/etc/keystone/$directory"
    for key in 0 1; do
        [ -s "/etc/keystone/$directory/$key" ] && continue
        head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n' >"/etc/keystone/$directory/$key"
        chown keystone:keystone "/etc/keystone/$directory/$key"
        chmod 600 "/etc/keystone/$directory/$key"
    done
done
order_after keystone
up keystone
# The password goes by the environment, which only the process's own user can read. On a command line
# every user of the host could, and the journal keeps the command line of whoever writes to it.
# (setpriv, unlike runuser, opens no PAM session and writes nothing to the journal.)
HOME=/var/lib/keystone OS_BOOTSTRAP_PASSWORD=$SECRET_ADMIN setpriv --reuid keystone --regid keystone --init-groups \
    keystone-manage bootstrap \
    --bootstrap-region-id RegionOne \
    --bootstrap-admin-url "http://$CONTROLLER_ADDRESS:5000/v3/" \
    --bootstrap-internal-url "http://$CONTROLLER_ADDRESS:5000/v3/" \
    --bootstrap-public-url "http://$CONTROLLER_ADDRESS:5000/v3/"
until_ok 90 "Keystone on port 5000" curl -sf -o /dev/null "http://$CONTROLLER_ADDRESS:5000/v3"
template openrc /root/openrc root:root 600
# shellcheck source=/dev/null
. /root/openrc
python3 "$PROVISION/identity.py"
