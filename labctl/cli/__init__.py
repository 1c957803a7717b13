"""The command line `labctl`: parse, call the lab, show, exit code."""

from labctl.cli.app import main

__all__ = ["main"]
