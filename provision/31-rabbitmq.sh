#!/usr/bin/env bash
# RabbitMQ, the message bus between Nova's parts, on the controller's eth1 address.
. "$(dirname "$0")/lib.sh"

verbatim rabbitmq-env.conf /etc/rabbitmq/rabbitmq-env.conf root:root 644
template rabbitmq.conf /etc/rabbitmq/rabbitmq.conf root:root 644
template rabbitmq-definitions.json /etc/rabbitmq/definitions.json rabbitmq:rabbitmq 600
verbatim epmd-socket.conf /etc/systemd/system/epmd.socket.d/labctl.conf root:root 644
# The cookie is the password of Erlang's distribution. The package makes one when it is installed,
# which is in the image: all labs of an image would have the same. Ours is 64 hexadecimal digits.
cookie=/var/lib/rabbitmq/.erlang.cookie
if ! grep -qxE '[0-9a-f]{64}' "$cookie" 2>/dev/null; then
    # In a file of its own until it is whole, and never on a command line.
    (umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$cookie.new")
    chown rabbitmq:rabbitmq "$cookie.new"
    chmod 400 "$cookie.new"
    # Stopped with the cookie that it runs with: `rabbitmqctl stop` has to know it.
    systemctl stop rabbitmq-server
    mv "$cookie.new" "$cookie"
    CHANGED=yes
fi
systemctl daemon-reload
if [ "$CHANGED" = yes ]; then systemctl try-restart epmd.socket epmd.service; fi
# After this node: a file system made elsewhere may carry another node's broker state.
up rabbitmq-server
until_ok 90 "RabbitMQ on $CONTROLLER_ADDRESS:5672" port_open "$CONTROLLER_ADDRESS" 5672
say "RabbitMQ answers"
