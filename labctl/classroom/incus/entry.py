"""What labctl knows of the engine incus."""

from pathlib import Path

from labctl.classroom.engine import Engine
from labctl.classroom.model import ClassSpec
from labctl.classroom.registry import EngineEntry


def _make(spec: ClassSpec, directory: Path) -> Engine:
    # The HTTP library takes a moment to import: `labctl class validate` does without.
    from labctl.classroom.incus.api import IncusAPI
    from labctl.classroom.incus.remotes import find
    from labctl.classroom.incus.server import IncusEngine

    remote = find(spec.incus.remote)
    api = IncusAPI(remote, spec.incus.project or remote.project, 60 * spec.minutes)
    return IncusEngine(spec, directory, api, remote)


ENTRY = EngineEntry("incus", _make)
