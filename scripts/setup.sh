#!/usr/bin/env bash
# Makes this checkout ready to run. The words say what, in any order; doing it twice costs nothing.
#
#   scripts/setup.sh system   the system's packages, by apt, only those that are missing
#   scripts/setup.sh venv     .venv with labctl and the libraries of requirements.lock
#   scripts/setup.sh dev      the same, and what `make test` needs, of requirements-dev.lock
#   scripts/setup.sh tools    real tools that some tests drive: Vagrant, libvirt, QEMU, an SSH server,
#                             Chromium, sudo, a clock and a locale of choice, axe-core and Mermaid in
#                             tests/page.
#                             CI installs them; elsewhere such a test is skipped without its tool
#
# On a terminal it asks once before it uses apt; YES=1, or no terminal: no question.
# PYTHON=python3.12 names the interpreter to use.
set -euo pipefail
shopt -s inherit_errexit # a failure inside $(…) is a failure
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin # Debian leaves them out for users, and ethtool and modprobe are there

# What the host must have, by Debian's and Ubuntu's name, and how to see that it does.
system_packages() {
    cat <<'TABLE'
make                    command make
mmdebstrap              command mmdebstrap
gpg                     command gpg
debian-archive-keyring  file    /usr/share/keyrings/debian-archive-keyring.gpg
systemd-container       command systemd-nspawn
util-linux              command unshare
mount                   command mount
iproute2                command ip
ethtool                 command ethtool
nftables                command nft
procps                  command sysctl
kmod                    command modprobe
openssh-client          command ssh
TABLE
}

say() { printf '%s\n' "$*"; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
    exit 1
}
have() { command -v "$1" >/dev/null; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "root is needed for: $*" "Run it as root, or install sudo."
    fi
}

# Prints the first interpreter that is new enough and can make a virtual environment. Debian keeps
# ensurepip in a package of its own, pyenv and others bring it along: trying tells, names do not.
find_python() {
    local candidate fits candidates=(python3 /usr/bin/python3 python3.13 python3.12 python3.11)
    [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
    fits='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
    for candidate in "${candidates[@]}"; do
        if "$candidate" -I -c "$fits" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Prints the packages that will bring such an interpreter, as far as apt knows.
python_packages() {
    local candidate version
    candidate=$(LC_ALL=C apt-cache policy python3 | awk '/Candidate:/ && $2 != "(none)" { print $2 }')
    if [ -z "$candidate" ] || dpkg --compare-versions "$candidate" ge 3.11; then
        say python3 python3-venv # without apt's lists, a guess; looked at again once they are there
        return
    fi
    for version in 3.13 3.12 3.11; do
        if [ -n "$(apt-cache show "python$version-venv" 2>/dev/null)" ]; then
            say "python$version" "python$version-venv"
            return
        fi
    done
    die "labctl needs Python 3.11 or newer; this system offers $candidate." \
        "Use Debian 12 or newer or Ubuntu 22.04 or newer, or install a newer Python beside it and" \
        "name it: make lab PYTHON=/path/to/python3.12"
}

missing_packages() {
    local package kind what packages=()
    while read -r package kind what; do
        case $kind in
        command) have "$what" || packages+=("$package") ;;
        file) [ -e "$what" ] || packages+=("$package") ;;
        esac
    done < <(system_packages)
    if ! find_python >/dev/null; then
        [ -z "${PYTHON:-}" ] ||
            die "PYTHON=$PYTHON is no Python 3.11 or newer with the modules venv and ensurepip."
        what="python 3.11 or newer with venv and ensurepip"
        ! have apt-get || what=$(python_packages)
        packages+=("$what")
    fi
    say "${packages[*]}"
}

# Says so where the host's keys of Debian's archives end before Debian 12: the nodes' Debian 13 is
# signed with the keys of 12 and 13. Only containers need it, and apt may have no newer package.
check_keyring() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg home keys id
    [ -e "$keyring" ] && have gpg || return 0
    home=$(mktemp -d) # gpg makes the directory of its settings
    keys=$(gpg --batch --homedir "$home" --with-colons --show-keys "$keyring" \
        /etc/apt/trusted.gpg.d/*.gpg /etc/apt/trusted.gpg.d/*.asc 2>/dev/null) || true
    rm -rf "$home"
    # Debian Archive and Debian Security Archive Automatic Signing Keys, each of 12 or of 13.
    for id in 'B7C5D7D6350947F8|225629DF75B188BD' '254CF3B5AEC0A8F0|9904613D4CCE68C6'; do
        grep -qE "^pub:[^:]*:[^:]*:[^:]*:($id):" <<<"$keys" && continue
        say "warning: $keyring is too old for Debian 13, of which container labs are made:" \
            "         install debian-archive-keyring 2023.3 or newer; where apt offers an older one" \
            "         (Ubuntu 22.04), take the package from Debian and install the file with apt." >&2
        return 0
    done
}

do_system() {
    install_missing
    check_keyring
}

install_missing() {
    local missing answer
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    have apt-get || die "labctl needs these and there is no apt-get to install them: $missing" \
        "Install them with your system's package manager, by whatever name it has for them."
    if [ -z "${YES:-}" ] && [ -t 0 ] && [ -t 2 ]; then
        say "labctl needs these packages: $missing" >&2
        read -r -p "Install them with apt? [Y/n] " answer || answer=n
        case $answer in
        "" | [Yy]*) ;;
        *) die "not installed: $missing" "Install them yourself and run make again." ;;
        esac
    else
        say "Installing $missing"
    fi
    as_root apt-get update -q || say "apt-get update failed; going on with the lists that are there"
    missing=$(missing_packages)
    # A fresh machine often upgrades itself in the background: wait for it rather than fail.
    # shellcheck disable=SC2086  # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=600 $missing
    hash -r
    missing=$(missing_packages)
    [ -z "$missing" ] || die "apt installed everything, and still missing: $missing"
}

# What .venv was made from. Moving the checkout counts: a virtual environment holds its own path.
recipe() {
    "$1" - "$2" <<'PYTHON'
import hashlib, pathlib, sys, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text("utf-8"))
parts = [sys.argv[1], sys.version, str(pathlib.Path.cwd()), project["build-system"],
         project["project"], project["tool"]["hatch"]]
if sys.argv[1] == "dev":
    parts += [project["dependency-groups"], pathlib.Path("requirements-dev.lock").read_text("utf-8")]
parts.append(pathlib.Path("requirements.lock").read_text("utf-8"))
print(hashlib.sha256(repr(parts).encode()).hexdigest())
PYTHON
}
is_current() {
    local stamp=.venv/.labctl-$1
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(recipe .venv/bin/python "$1" 2>/dev/null)" ]
}
mark_current() { recipe .venv/bin/python "$1" >".venv/.labctl-$1"; }

# pip and not a faster installer: it honours the user's own configuration of indexes, proxies and
# certificates, and it is there.
pip_install() { .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"; }

# A lock file has the hash of each archive: whatever an index or a mirror hands out, nothing else is
# installed. No source archives, for which pip would fetch build tools that nobody has looked at.
install_locked() { pip_install --require-hashes --only-binary :all: -r "$1"; }

do_venv() {
    local python
    is_current venv && return
    python=$(find_python) || die "labctl needs Python 3.11 or newer with the modules venv and ensurepip." \
        "make setup installs it."
    say "Installing labctl and its libraries into .venv"
    "$python" -m venv --clear .venv
    install_locked requirements.lock
    # With the hatchling of the lock, instead of one that pip fetches.
    pip_install --no-deps --no-build-isolation -e .
    mark_current venv
}

do_dev() {
    do_venv
    is_current dev && return
    say "Installing what the tests need into .venv"
    install_locked requirements-dev.lock
    mark_current dev
}

# What tests drive and labctl can do without. No daemon of these is started here: the tests start
# their own, in namespaces, and a developer's machine is not asked to run a libvirt.
do_tools() {
    tool_packages
    # axe-core for the tests of the report, Mermaid for those of the graph; their versions and
    # checksums are in the lock file. The registry is whichever npm is set up for.
    [ tests/page/node_modules/.package-lock.json -nt tests/page/package-lock.json ] ||
        npm ci --prefix tests/page --ignore-scripts --no-audit --no-fund
}

tool_packages() {
    local package missing=() policy=/usr/sbin/policy-rc.d
    for package in vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients qemu-system-x86 \
        qemu-utils dnsmasq-base iptables openssh-server libxml2-utils \
        chromium fonts-noto-cjk tmux faketime locales sudo; do
        dpkg-query -Wf '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
    done
    have npm || missing+=(npm) # others than Debian bring it inside their nodejs
    [ "${#missing[@]}" -gt 0 ] || return 0
    have apt-get || die "the tests need these and there is no apt-get to install them: ${missing[*]}"
    say "Installing ${missing[*]}"
    as_root apt-get update -q || say "apt-get update failed; going on with the lists that are there"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
        # shellcheck disable=SC2064  # the name as it is now
        trap "as_root rm -f $policy" EXIT
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=600 "${missing[@]}"
}

[ $# -gt 0 ] || set -- system venv
for word in "$@"; do
    case $word in
    system | venv | dev | tools) "do_$word" ;;
    *) die "scripts/setup.sh knows: system venv dev tools" ;;
    esac
done
