# python3-openstackclient 7.4.0, Debian 13's, openstackclient/compute/v2/server.py: the address of
# `server create --nic net-id=…,v4-fixed-ip=ADDRESS` goes to Nova as `fixed`, which Nova refuses.
s/network\['fixed'\] = nic\[/network['fixed_ip'] = nic[/
