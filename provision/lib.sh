# shellcheck shell=bash
# Sourced by every NN-name.sh. Each script does one thing, may be run again at any time, and
# needs nothing but bash, the packages of packages/*.list and /etc/labctl/lab.env.
set -euo pipefail

PROVISION=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PROVISION DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
PATIENCE=1 # lab.env says more where nodes are slower than containers
CHANGED=no # did this run of the script change a configuration file?
ARCHITECTURE=$(dpkg --print-architecture) # amd64 or arm64
MACHINE=$(uname -m)                       # the same as Linux and QEMU say it: x86_64 or aarch64

if [ -r /etc/labctl/lab.env ]; then
    set -a
    # shellcheck source=/dev/null
    . /etc/labctl/lab.env
    set +a
fi

# Timeouts of services, in seconds, for the templates of files/.
export PATIENT_60=$((60 * PATIENCE))
export PATIENT_75=$((75 * PATIENCE))
export PATIENT_180=$((180 * PATIENCE))

say() { printf '%s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

has_role() { [[ " ${NODE_ROLES:-} " == *" $1 "* ]]; }

# packages_of LIST...: the packages that the files list for this architecture. A line is a package;
# `[amd64]` after it, as in Debian's control files: for that architecture only.
packages_of() {
    sed 's/#.*//' "$@" | awk -v only="[$ARCHITECTURE]" 'NF == 1 || $2 == only { print $1 }'
}

# verbatim SOURCE TARGET OWNER:GROUP MODE: install a file of files/ as it is.
# template SOURCE TARGET OWNER:GROUP MODE: the same with ${VARIABLES} filled in.
# settings SOURCE TARGET OWNER:GROUP MODE: the variables it names, as a shell reads them.
# Written whole and moved into place, so a reader never sees half a file.
verbatim() { install_file cat "$@"; }
template() { install_file envsubst "$@"; }
settings() { install_file quoted "$@"; }
quoted() {
    local name
    while read -r name; do printf '%s=%q\n' "$name" "${!name}"; done
}
install_file() {
    local filter=$1 source=$PROVISION/files/$2 target=$3 new
    mkdir -p "$(dirname "$target")"
    new=$(mktemp "$target.XXXXXX")
    "$filter" <"$source" >"$new"
    chown "$4" "$new"
    chmod "$5" "$new"
    if cmp -s "$new" "$target"; then
        rm -f "$new"
    else
        mv "$new" "$target"
        CHANGED=yes
    fi
}

# set_ini FILE KEY VALUE: one value of a packaged ini file, without owning the whole file.
set_ini() {
    grep -Eq "^$2 = $3\$" "$1" && return
    sed -i "s|^$2 = .*|$2 = $3|" "$1"
    CHANGED=yes
}

# up UNIT...: enabled, and running with the configuration that is on disk now.
up() {
    systemctl unmask --quiet "$@"
    systemctl enable --quiet "$@"
    if [ "$CHANGED" = yes ]; then systemctl restart --no-block "$@"; else systemctl start --no-block "$@"; fi
}

# running start|restart UNIT: begin it and wait until it runs. When it fails, its last words come
# from the journal: systemctl itself only says that it failed. With the result "resources" systemd
# could not even make a process: seen once in hundreds of starts, on a busy machine, and no fault of
# the unit's, so that is tried three times.
running() {
    local attempt
    for attempt in 1 2 3; do
        systemctl "$1" "$2" && return
        journalctl --no-pager --quiet --output cat --unit "$2" --lines 15 >&2 || true
        [ "$(systemctl show --value --property Result "$2")" = resources ] || break
        systemctl reset-failed "$2"
        sleep "$attempt"
    done
    return 1
}

# until_ok SECONDS WHAT COMMAND...: wait for COMMAND to succeed; on expiry say what was awaited.
# SECONDS are those of a container: slow machines get PATIENCE times as many.
until_ok() {
    local deadline=$((SECONDS + $1 * PATIENCE)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || die "waited too long for $what (last try: $*)"
        sleep 0.3
    done
}

port_open() { timeout 2 bash -c "exec 3<>/dev/tcp/$1/$2"; }

# order_after UNIT...: OpenStack's units name no dependency on OVN, and give up after a few
# failures; in the lab they start in any order after a reboot, and try again until it works.
order_after() {
    local unit
    for unit in "$@"; do
        mkdir -p "/etc/systemd/system/$unit.service.d"
        cp "$PROVISION/files/unit-dropin.conf" "/etc/systemd/system/$unit.service.d/labctl.conf"
    done
    systemctl daemon-reload
}
