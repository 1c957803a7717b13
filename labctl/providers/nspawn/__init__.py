"""Nodes as systemd-nspawn containers."""

NAME = "nspawn"
"""In lab.yaml."""
