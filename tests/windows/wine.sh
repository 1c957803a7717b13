#!/bin/sh
# As the learner of this Windows: usage: wine.sh COMMAND..., inside the root file system.
export HOME=/home/learner WINEPREFIX=/home/learner/wine XDG_RUNTIME_DIR=/tmp WINEDEBUG=-all
# No downloads of Mono and Gecko, no window system.
export WINEDLLOVERRIDES="mscoree,mshtml=" PATH=/usr/bin:/bin
cd "${LEARNER_DIRECTORY:-$HOME}" || exit 1
unset LEARNER_DIRECTORY
exec setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs "$@"
