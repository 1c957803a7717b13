"""The command line `labctl`: parses the arguments, does the work, shows the result."""

from labctl.cli.app import main

__all__ = ["main"]
