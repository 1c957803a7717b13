"""What labctl knows of the engine openstack."""

from pathlib import Path

from labctl.classroom.engine import Engine
from labctl.classroom.model import ClassSpec
from labctl.classroom.registry import EngineEntry


def _make(spec: ClassSpec, directory: Path) -> Engine:
    # The SDK takes a second to import: `labctl class validate` does without.
    from labctl.classroom.openstack.cloud import OpenStackEngine, connect

    return OpenStackEngine(spec, directory, connect(spec.openstack.cloud))


ENTRY = EngineEntry("openstack", _make)
