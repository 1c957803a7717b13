#!/usr/bin/env bash
# RabbitMQ, the message bus between Nova's parts, on the controller's eth1 address.
. "$(dirname "$0")/lib.sh"

template rabbitmq-env.conf /etc/rabbitmq/rabbitmq-env.conf root:root 644
template rabbitmq.conf /etc/rabbitmq/rabbitmq.conf root:root 644
template rabbitmq-definitions.json /etc/rabbitmq/definitions.json rabbitmq:rabbitmq 600
# After this node: a file system made elsewhere may carry another node's broker state.
up rabbitmq-server
until_ok 90 "RabbitMQ on $CONTROLLER_ADDRESS:5672" port_open "$CONTROLLER_ADDRESS" 5672
say "RabbitMQ answers"
