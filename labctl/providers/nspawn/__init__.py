"""Nodes as systemd-nspawn containers."""
