#!/bin/sh
# Makes this checkout ready to run. The words say what, in any order; doing it twice costs nothing.
#
#   scripts/setup.sh system   what the nodes need: for containers the system's packages, for libvirt
#                             its own, by apt, only those that are missing; for VirtualBox nothing
#                             that needs root
#   scripts/setup.sh venv     .venv with labctl and the libraries of requirements.lock
#   scripts/setup.sh dev      the same, and what `make test` needs, of requirements-dev.lock
#   scripts/setup.sh tools    real tools that some tests drive: Vagrant, libvirt, QEMU, an SSH server,
#                             Chromium, sudo, a clock and a locale of choice, axe-core and Mermaid in
#                             tests/page, two more shells.
#                             CI installs them; elsewhere such a test is skipped without its tool
#   scripts/setup.sh arm64    those for libvirt of them, and emulators for arm64: what `make arm64` drives
#   scripts/setup.sh tempest  ping and nc, which the tests of `make tempest` call on this machine
#
# What the nodes will be: PROVIDER=virtualbox, libvirt or nspawn, else `provider:` of lab.yaml, else
# what is there. On a terminal it asks if nothing tells, and asks once before it uses apt; YES=1, or
# no terminal: no question.
# PYTHON=python3.12 names the interpreter to use.
#
# It is POSIX, because macOS has bash 3.2 and others have none: no arrays, no `local`, no `[[`. And
# no `case` inside $(…), which bash 3.2 cannot read.
set -eu
# bash leaves `set -e` behind in $(…), unless it is to be POSIX.
# shellcheck disable=SC3040
if (set -o posix) 2>/dev/null; then set -o posix; fi
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin # Debian leaves them out for users, and ethtool and modprobe are there

# What the host must have, by Debian's and Ubuntu's name, and the commands of which one shows that it
# does. Vagrant without its plugin is the doctor's to tell: who has HashiCorp's Vagrant already needs
# another plugin than apt's.
needs_of_all() {
    cat <<'TABLE'
make                    make
openssh-client          ssh
TABLE
}
needs_of_nspawn() {
    cat <<'TABLE'
mmdebstrap              mmdebstrap
systemd-container       systemd-nspawn
util-linux              unshare
mount                   mount
iproute2                ip
ethtool                 ethtool
nftables                nft
procps                  sysctl
kmod                    modprobe
TABLE
}
needs_of_libvirt() {
    cat <<'TABLE'
vagrant,vagrant-libvirt vagrant
libvirt-daemon-system   libvirtd virtqemud
libvirt-clients         virsh
qemu-system-x86         qemu-system-x86_64
qemu-utils              qemu-img
dnsmasq-base            dnsmasq
TABLE
}
# Neither Debian nor Ubuntu has a VirtualBox or a Vagrant that go together: they are the user's to
# install, and `labctl doctor` says which.
needs_of_virtualbox() { :; }

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

# -- what the nodes will be ------------------------------------------------------------------------
# Prints `provider:` of lab.yaml, nothing if there is none. The value is one word; labctl itself says
# what is wrong with another.
provider_of_lab() {
    sed -n 's/^provider:[[:space:]]*["'\'']\{0,1\}\([a-z]*\).*/\1/p' "${LABCTL_FILE:-lab.yaml}" 2>/dev/null |
        sed -n 1p
}

# Sets `provider`.
choose_provider() {
    provider=${PROVIDER:-}
    [ -n "$provider" ] || provider=$(provider_of_lab)
    system=$(uname -s)
    case $provider in
    virtualbox | libvirt | nspawn) ;;
    "" | auto) provider=$(provider_of_host) ;;
    *) die "what the nodes will be is virtualbox, libvirt or nspawn, not: $provider" \
        "Correct PROVIDER or, in lab.yaml, provider." ;;
    esac
    case $system:$provider in
    Linux:* | Darwin:virtualbox) ;;
    Darwin:*) die "on macOS the nodes are machines of VirtualBox: $provider is for Linux." \
        "make lab PROVIDER=virtualbox, or do this in a Linux machine." ;;
    *) die "make is for Linux and macOS. Here: uv tool install ., then labctl create" ;;
    esac
}

# Prints what the nodes will be where nobody has said it.
provider_of_host() {
    if [ "$system" = Darwin ] || { have VBoxManage && have vagrant; }; then
        say virtualbox
    elif [ -n "${YES:-}" ] || [ ! -t 0 ] || [ ! -t 2 ] || [ -z "$(missing_for nspawn)" ]; then
        say nspawn
    else
        ask_provider
    fi
}

ask_provider() {
    say "What will the nodes be?" \
        "  1  containers: needs no hypervisor; labctl then works as root, by sudo" \
        "  2  virtual machines of libvirt" \
        "  3  virtual machines of VirtualBox, which you install yourself" >&2
    printf '[1] ' >&2
    read -r answer || answer=1
    # In an `if`, and not in a `case`: this runs inside $(…).
    if [ "$answer" = 2 ]; then
        say libvirt
    elif [ "$answer" = 3 ]; then
        say virtualbox
    else
        say nspawn
    fi
}

# -- what that needs -------------------------------------------------------------------------------
# Prints the first interpreter that is new enough and can make a virtual environment. Debian keeps
# ensurepip in a package of its own, pyenv and others bring it along: trying tells, names do not.
find_python() {
    fits='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
    for candidate in ${PYTHON:-python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -I -c "$fits" 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# Prints the packages that will bring such an interpreter, as far as apt knows.
python_packages() {
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

# Prints the packages that a provider needs and that are not there.
missing_for() {
    { needs_of_all && "needs_of_$1"; } | while read -r packages commands; do
        found=
        for name in $commands; do
            ! have "$name" || found=yes
        done
        [ -n "$found" ] || printf '%s\n' "$packages" | tr , '\n'
    done
}

# Sets `missing`: the packages to install, in one line.
look_for_missing() {
    missing=$(missing_for "$provider" | tr '\n' ' ')
    if ! find_python >/dev/null; then
        [ -z "${PYTHON:-}" ] ||
            die "PYTHON=$PYTHON is no Python 3.11 or newer with the modules venv and ensurepip."
        if have apt-get; then
            python=$(python_packages | tr '\n' ' ')
        else
            python="python 3.11 or newer with venv and ensurepip"
        fi
        missing="$missing$python"
    fi
}

do_system() {
    choose_provider
    look_for_missing
    [ -n "$missing" ] || return 0
    have apt-get || die "labctl needs these and there is no apt-get to install them: $missing" \
        "Install them with your system's package manager, by whatever name it has for them." \
        "Or go without make, if it is only Python: uv tool install ., then labctl create."
    if [ -z "${YES:-}" ] && [ -t 0 ] && [ -t 2 ]; then
        printf '%s\n' "labctl needs these packages: $missing" >&2
        printf 'Install them with apt? [Y/n] ' >&2
        read -r answer || answer=n
        case $answer in
        "" | [Yy]*) ;;
        *) die "not installed: $missing" "Install them yourself and run make again." ;;
        esac
    else
        say "Installing $missing"
    fi
    as_root apt-get update -q || say "apt-get update failed; going on with the lists that are there"
    look_for_missing
    # A fresh machine often upgrades itself in the background: wait for it rather than fail.
    # shellcheck disable=SC2086  # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=600 $missing
    hash -r 2>/dev/null || : # what the shell remembers of where programs are; posh remembers nothing
    look_for_missing
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
    stamp=.venv/.labctl-$1
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
    if is_current venv; then return; fi
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
    if is_current dev; then return; fi
    say "Installing what the tests need into .venv"
    install_locked requirements-dev.lock
    mark_current dev
}

# What tests drive and labctl can do without. No daemon of these is started here: the tests start
# their own, in namespaces, and a developer's machine is not asked to run a libvirt.
do_tools() {
    # shellcheck disable=SC2086  # lists of words
    tool_packages $machine_tools libxml2-utils gpg gpgv \
        chromium fonts-noto-cjk tmux faketime locales sudo busybox posh
    have npm || tool_packages npm # others than Debian bring it inside their nodejs
    # axe-core for the tests of the report, Mermaid for those of the graph; their versions and
    # checksums are in the lock file. The registry is whichever npm is set up for.
    [ -n "$(find tests/page/node_modules/.package-lock.json -newer tests/page/package-lock.json 2>/dev/null)" ] ||
        npm ci --prefix tests/page --ignore-scripts --no-audit --no-fund
}

# A box for arm64 is baked by QEMU's user mode, and its machines run in the system emulator.
do_arm64() {
    # shellcheck disable=SC2086  # a list of words
    tool_packages $machine_tools mmdebstrap qemu-user-static qemu-system-arm qemu-efi-aarch64
}

# They go into the lab from the network namespace of a node, with this machine's programs.
do_tempest() {
    have ping || tool_packages iputils-ping
    have nc || tool_packages netcat-openbsd
}

machine_tools='vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients qemu-system-x86
    qemu-utils dnsmasq-base iptables openssh-server'

tool_packages() { # PACKAGE…
    policy=/usr/sbin/policy-rc.d missing=
    for package in "$@"; do
        dpkg-query -Wf '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    have apt-get || die "the tests need these and there is no apt-get to install them:$missing"
    say "Installing$missing"
    as_root apt-get update -q || say "apt-get update failed; going on with the lists that are there"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        # shellcheck disable=SC2064  # the name as it is now
        trap "as_root rm -f $policy" EXIT
    fi
    # shellcheck disable=SC2086  # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=600 $missing
}

[ $# -gt 0 ] || set -- system venv
for word in "$@"; do
    case $word in
    system | venv | dev | tools | arm64 | tempest) "do_$word" ;;
    *) die "scripts/setup.sh knows: system venv dev tools arm64 tempest" ;;
    esac
done
