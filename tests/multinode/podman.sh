#!/bin/sh
# Stands in for podman, for tests that run commands in containers by `podman exec NODE COMMAND…`: it
# enters the node of a lab. As with podman's, the command is one argv and no shell's line, begins in
# /, has an environment of its own and nothing to read, and its exit status is handed on.
#
# MULTINODE_NODES names a file with a line for each node: NAME PID, the host's number of its init.
usage() {
    echo "podman (labctl's stand-in): only \`podman exec NODE COMMAND…\`, not: podman $*" >&2
    exit 125 # podman's own, for errors that are not the command's
}

[ "${1-}" = exec ] || usage "$@"
case ${2-} in '' | -*) usage "$@" ;; esac
[ $# -ge 3 ] || usage "$@"
node=$2
init=
while read -r name pid; do
    [ "$name" != "$node" ] || init=$pid
done <"${MULTINODE_NODES:?names no file}"
if [ -z "$init" ]; then
    echo "podman (labctl's stand-in): no node is called $node" >&2
    exit 125
fi
shift 2
# What the testsuite has open is its own: a daemon that a command leaves would hold it for ever.
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-
# The tests export directories of their own to OVN's tools (OVS_RUNDIR and others): none goes along.
exec nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root -- \
    env -i --chdir=/ PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LANG=C.UTF-8 "$@" </dev/null
