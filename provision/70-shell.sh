#!/usr/bin/env bash
# What a learner finds after "labctl ssh": credentials loaded, abbrev, completion.
. "$(dirname "$0")/lib.sh"

verbatim abbrev.py /usr/local/bin/abbrev root:root 755
verbatim profile.sh /etc/profile.d/labctl.sh root:root 644
grep -q /etc/profile.d/labctl.sh /root/.bashrc 2>/dev/null ||
    printf '\n. /etc/profile.d/labctl.sh\n' >>/root/.bashrc
verbatim sudoers /etc/sudoers.d/labctl root:root 440
if grep -q '^DATAPATH=netdev' /etc/labctl/network.env; then
    verbatim ovs-dpctl /usr/local/bin/ovs-dpctl root:root 755
else
    rm -f /usr/local/bin/ovs-dpctl
fi
if has_role controller && [ "$LAB_STACK" = openstack ]; then
    # The key of the Nova keypair: the learner logs in to instances from here.
    install -d -m 700 /root/.ssh
    [ -s /root/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -C "labctl $LAB_NAME" -f /root/.ssh/id_ed25519
    verbatim ssh_config /root/.ssh/config root:root 600
    client=/usr/lib/python3/dist-packages/openstackclient/compute/v2/server.py
    if grep -q "network\['fixed'\] = " "$client"; then sed -i -f "$PROVISION/files/openstackclient.sed" "$client"; fi
fi
say "ready to log in"
