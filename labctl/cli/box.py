"""The verbs of Vagrant boxes."""

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli.elevate import become_root
from labctl.cli.options import Quiet, Verbs, open_console
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

box_app = typer.Typer(cls=Verbs, help="Boxes for virtual machines.", no_args_is_help=True)


@box_app.command("build")
def box_build(
    provider: Annotated[str, typer.Option(help="libvirt, virtualbox or all.")] = "all",
    output: Annotated[Path, typer.Option(help="Directory for the finished boxes.")] = Path(),
    quiet: Quiet = False,
) -> None:
    """Make the Vagrant box labctl/lab of today's recipe, with every package in it."""
    from labctl.assets import assets
    from labctl.images.baked import ImageCache
    from labctl.images.box import CATALOGUE, BoxBuilder
    from labctl.providers.registry import entries
    from labctl.state import cache_directory

    formats = {entry.name: entry.box for entry in entries() if entry.box is not None}
    if provider not in (*formats, "all"):
        raise LabError(
            tr("--provider {provider}: choose {names} or all",
               provider=provider, names=", ".join(sorted(formats))),
            code=EXIT_USAGE,
        )  # fmt: skip
    become_root()
    chosen = sorted(formats) if provider == "all" else [provider]
    provision = assets() / "provision"
    with open_console(quiet=quiet) as console:
        images = ImageCache(cache_directory(), provision)
        builder = BoxBuilder(
            images, provision, output.absolute(), formats.values(), chosen, console
        )
        for box in builder.build():
            console.say(f"{box.file}  {box.size / 1e6:.0f} MB")
            console.say(f"  sha256 {box.sha256}")
        for name in chosen:
            command = f"vagrant box add {CATALOGUE} --provider {name}"
            console.say(tr("in {directory}: {command}", directory=output, command=command))
