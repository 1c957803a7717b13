# Read by login shells and by interactive ones.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if [ -r /root/openrc ] && [ "$(id -u)" = 0 ]; then . /root/openrc; fi
