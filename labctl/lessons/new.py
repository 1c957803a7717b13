"""The lesson that an author starts from: `labctl lesson new` writes it."""

import re

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.lessons.load import available


def new_lesson(id: str) -> str:
    """The text of a lesson with that id, which runs as it is in any lab of two nodes.

    Raises LabError for what is no id of a lesson of one's own.
    """
    if re.fullmatch("[a-z0-9-]+", id) is None:
        raise LabError(
            tr("{id}: an id has small letters, digits and hyphens only", id=repr(id)),
            hint=tr("choose another id"),
            code=EXIT_USAGE,
        )
    if id in available():
        raise LabError(
            tr("the built-in lesson {id} has this id", id=id),
            hint=tr("choose another id"),
            code=EXIT_USAGE,
        )
    return _LESSON.replace("ID", id)


_LESSON = """\
# A lesson for labctl. Every field: docs/lessons.md. Run it: labctl replay ./ID.yaml
# Text may be plain English, or in both languages: {en: ..., zh-TW: ...}
id: ID
title: A logical switch of my own
goal: Make a logical switch, and see what OVN makes of it.
# stack: ovn                    # uncomment what the lab must be: ovn or openstack

checkpoints:
  - id: switch
    title: A logical switch
    explain: >-
      `ovn-nbctl` writes into the northbound database what is wanted. `ovn-northd` translates it
      for the chassis, into the southbound database.
    task: Make a logical switch `ID` with one port, `ID-port`.
    hints:
      - "`ovn-nbctl ls-add` makes a switch, `lsp-add` a port."
    node: controller
    run:
      - ovn-nbctl --may-exist ls-add ID
      - ovn-nbctl --may-exist lsp-add ID ID-port
    claims:
      # By another route than the command: the other database.
      - id: translated
        text: The southbound database has a datapath for the switch
        probe: ovn.datapaths
        where: {kind: switch, name: ID}
        count: 1
      - id: port
        text: The switch has one port, which no chassis has bound yet
        probe: ovn.port_bindings
        where: {port: ID-port}
        count: 1
        each: {chassis: null}
    # Must succeed as well when there is nothing to take back.
    undo: ovn-nbctl --if-exists ls-del ID

  - id: underlay
    title: The network below the tunnels
    explain: >-
      A ping from {{ node.gateway.name }} to {{ node.hypervisor.eth1.address.ip }}, the address of
      {{ node.hypervisor.name }} on eth1, takes no tunnel.
    node: gateway
    run:
      - ping -c 2 {{ node.hypervisor.eth1.address.ip }}
    # Without `undo` a checkpoint only looks; with `capture` its commands must change nothing.
    capture:
      - {node: hypervisor, interface: eth1, filter: icmp}
    claims:
      - id: no-tunnel
        text: "eth1 of {{ node.hypervisor.name }} sees the ping, not tunnelled"
        probe: wire.packets
        where: {node: "{{ node.hypervisor.name }}", interface: eth1, kind: request}
        count: 2
        each: {src: "{{ node.gateway.eth1.address.ip }}", tunnel: false}

summary: >-
  What is wanted stands in the northbound database, what is to be done in the southbound one.
  Change this lesson, and replay it.
"""
