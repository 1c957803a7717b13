#!/bin/sh
# mmdebstrap's essential hook (ROOT PROVISION): before the packages come in.
set -eu
printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d" # nothing may start
chmod 755 "$1/usr/sbin/policy-rc.d"
chroot "$1" debconf-set-selections <"$2/files/debconf.seed"
