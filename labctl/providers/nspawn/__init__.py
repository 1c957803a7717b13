"""Nodes as systemd-nspawn containers."""

from ipaddress import IPv4Network

NAME = "nspawn"
"""In lab.yaml."""
TRANSIT = IPv4Network("100.127.0.0/16")
"""For the links between the host and NAT namespaces: a part of RFC 6598's shared address space,
which private networks seldom use."""
