# shellcheck shell=bash disable=SC1091
# Read by login shells and by interactive ones.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
if [ -r /root/openrc ] && [ "$(id -u)" = 0 ]; then
    . /root/openrc
elif command -v openstack >/dev/null; then
    # Without credentials the client says "Missing value auth-url", which helps nobody.
    openstack() {
        case "${OS_AUTH_URL-}${OS_CLOUD-} $*" in
            [!\ ]* | *--os-* | *--help* | *--version* | ' help'* | ' complete'*)
                command openstack "$@"
                ;;
            *)
                # In a subshell: these variables are not for the learner.
                (
                    CONTROLLER_NAME=CONTROLLER
                    if [ -r /etc/labctl/lab.env ]; then . /etc/labctl/lab.env; fi
                    if [ "${LAB_STACK-}" = ovn ]; then
                        echo "openstack: this lab is OVN alone, without OpenStack" >&2
                        exit
                    fi
                    echo "openstack: root has the credentials, on the controller:" \
                        "labctl ssh $CONTROLLER_NAME" >&2
                )
                return 1
                ;;
        esac
    }
    # For shells that a shell starts, as `labctl ssh NODE -- openstack …` does.
    if [ -n "${BASH_VERSION-}" ]; then export -f openstack; fi
fi
# OVN's databases are on the controller; on other nodes its tools find them over eth1.
if [ -r /etc/labctl/network.env ]; then
    LABCTL_OVN=$(
        . /etc/labctl/network.env
        [ "${ETH1_ADDRESS%/*}" = "$CONTROLLER_ADDRESS" ] || echo "tcp:$CONTROLLER_ADDRESS"
    )
    if [ -n "$LABCTL_OVN" ]; then export OVN_NB_DB="$LABCTL_OVN:6641" OVN_SB_DB="$LABCTL_OVN:6642"; fi
    unset LABCTL_OVN
fi
# What the checkpoints of a lesson set, FLOATING_IP for one.
if [ -r /var/lib/labctl/lesson.sh ]; then . /var/lib/labctl/lesson.sh; fi
