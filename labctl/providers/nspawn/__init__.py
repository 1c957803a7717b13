"""Nodes as systemd-nspawn containers."""

NAME = "nspawn"
"""As lab.yaml calls it."""
