"""`labctl class image`: a machine image with labctl, the baked image and a lab at `base` inside."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from labctl.actions.create import create
from labctl.actions.destroy import destroy
from labctl.actions.renew import seal
from labctl.assets import assets
from labctl.engine.events import Event
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr
from labctl.images.baked import ImageCache
from labctl.images.machine import PLACE, MachineBuilder
from labctl.lab import Lab
from labctl.spec.load import LabSpec, load_spec, parse_spec
from labctl.state import cache_directory

PROVIDER, STACK = "nspawn", "ovn"
DEFAULT = f"""# The lab of this machine: two nodes with OVN, in containers.
name: ovn-lab
provider: {PROVIDER}
stack: {STACK}
"""


def make_image(
    output: Path, lab_file: Path | None, subscriber: Callable[[Event], None] | None = None
) -> Path:
    """Make the image, and the lab of `lab_file` that is in it (default: two nodes with OVN).

    Needs root, a Debian mirror the first time, and room for a lab. Raises SpecError, LabError,
    StepFailed, Cancelled.
    """
    text = DEFAULT if lab_file is None else lab_file.read_text(encoding="utf-8")
    spec = parse_spec(DEFAULT.encode(), "lab.yaml") if lab_file is None else load_spec(lab_file)
    _refuse(spec)
    provision = assets() / "provision"
    images = ImageCache(cache_directory(), provision, stack=STACK)
    builder = MachineBuilder(images, provision, output, subscriber)
    file = builder.work / "lab" / "lab.yaml"

    def end_lab() -> None:
        lab = Lab(file, subscriber)
        if lab.state.exists:
            destroy(lab)

    with builder.working(end_lab):
        builder.prepare()
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
        lab = Lab(file, subscriber)
        identity = lab.state.begin(spec.name, PROVIDER)
        lab.state.save_identity(replace(identity, image=images.key))
        create(lab, template=False)
        seal(lab, builder.lab, PLACE)
        destroy(lab)
        return builder.finish()


def _refuse(spec: LabSpec) -> None:
    """Raise LabError (wrong use) for a lab that cannot be in a machine image."""
    if spec.stack != STACK:
        raise LabError(
            tr(
                "only a lab with {setting} can be in a machine image yet", setting=f"stack: {STACK}"
            ),
            hint=tr("OpenStack's databases hold keys that cannot be renewed a second time"),
            code=EXIT_USAGE,
        )
    if spec.provider not in (PROVIDER, "auto"):
        raise LabError(
            tr("the lab in a machine image is of containers: {setting}",
               setting=f"provider: {PROVIDER}"),
            code=EXIT_USAGE,
        )  # fmt: skip
