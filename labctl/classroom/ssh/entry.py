"""What labctl knows of the engine ssh."""

from pathlib import Path

from labctl.classroom.engine import Engine
from labctl.classroom.model import ClassSpec
from labctl.classroom.registry import EngineEntry


def _make(spec: ClassSpec, directory: Path) -> Engine:
    from labctl.classroom.ssh.machines import SSHEngine

    return SSHEngine(spec, directory)


ENTRY = EngineEntry("ssh", _make, makes_machines=False)
