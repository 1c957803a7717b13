# shellcheck shell=bash disable=SC1091
# Read by login shells and by interactive ones.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if [ -r /root/openrc ] && [ "$(id -u)" = 0 ]; then . /root/openrc; fi
# What the checkpoints of a lesson set, FLOATING_IP for one.
if [ -r /var/lib/labctl/lesson.sh ]; then . /var/lib/labctl/lesson.sh; fi
