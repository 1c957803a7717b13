"""The verbs of Vagrant boxes."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from labctl.cli.elevate import become_root
from labctl.cli.options import Quiet, Verbs, open_console
from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list

box_app = typer.Typer(cls=Verbs, help="Boxes for virtual machines.", no_args_is_help=True)


@box_app.command("build")
def box_build(
    provider: Annotated[str, typer.Option(help="libvirt, virtualbox or all.")] = "all",
    output: Annotated[Path, typer.Option(help="Directory for the finished boxes.")] = Path(),
    architecture: Annotated[
        str, typer.Option(help="amd64 or arm64; another than this machine's takes an emulator.")
    ] = "",
    stack: Annotated[
        str, typer.Option(help="openstack, or ovn for a smaller box without OpenStack.")
    ] = "openstack",
    quiet: Quiet = False,
) -> None:
    """Make the Vagrant box labctl/lab of today's recipe, with every package in it."""
    from labctl.actions.box import require_builder
    from labctl.assets import assets
    from labctl.images.baked import ImageCache
    from labctl.images.box import BoxBuilder
    from labctl.images.box_file import CATALOGUE
    from labctl.operating_system.architecture import ARCHITECTURES
    from labctl.providers.registry import entries
    from labctl.spec.model import Stack
    from labctl.state import cache_directory

    formats = {entry.name: entry.box for entry in entries() if entry.box is not None}
    if provider not in (*formats, "all"):
        raise LabError(
            tr("--provider {provider}: choose {names} or all",
               provider=provider, names=tr_list(sorted(formats))),
            code=EXIT_USAGE,
        )  # fmt: skip
    if architecture not in ("", *ARCHITECTURES):
        raise LabError(
            tr("--architecture {architecture}: choose {names}",
               architecture=architecture, names=tr_list(sorted(ARCHITECTURES))),
            code=EXIT_USAGE,
        )  # fmt: skip
    stacks = get_args(Stack)
    if stack not in stacks:
        raise LabError(
            tr("--stack {stack}: choose {names}", stack=stack, names=tr_list(stacks)),
            code=EXIT_USAGE,
        )
    require_builder()
    become_root()
    chosen = sorted(formats) if provider == "all" else [provider]
    provision = assets() / "provision"
    with open_console(quiet=quiet) as console:
        images = ImageCache(cache_directory(), provision, ARCHITECTURES.get(architecture), stack)
        builder = BoxBuilder(
            images, provision, output.absolute(), formats.values(), chosen, console
        )
        for box in builder.build():
            console.say(f"{box.file}  {box.size / 1e6:.0f} MB")
            console.say(f"  sha256 {box.sha256}")
        for name in chosen:
            command = f"vagrant box add {CATALOGUE} --provider {name}"
            console.say(tr("in {directory}: {command}", directory=output, command=command))


@box_app.command("get")
def box_get(
    provider: Annotated[str, typer.Option(help="What the box is for.")] = "",
    image: Annotated[
        Path | None,
        typer.Option("--from", help="Debian's cloud image, downloaded before (.tar.xz or .raw)."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Keep the box and its catalogue here, for others.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make the box labctl/lab from Debian's cloud image, on any host; needs the Internet once."""
    from labctl.actions.box import BoxMaker, expected_time, makers, provider_here

    chosen = provider or provider_here()
    _require_one_of(chosen, list(makers()) if chosen in makers() else _box_takers())
    with open_console(quiet=quiet) as console:
        maker = BoxMaker(
            chosen,
            image=image,
            output=output and output.absolute(),
            subscriber=console,
        )
        console.say(expected_time())
        version = maker.make()
        console.say(tr("Vagrant has the box {box}", box=f"labctl/lab {version}"))


@box_app.command("add")
def box_add(
    source: Annotated[str, typer.Argument(help="A .box or its catalogue (.json): file or URL.")],
    provider: Annotated[str, typer.Option(help="Which box of a catalogue to take.")] = "",
    quiet: Quiet = False,
) -> None:
    """Add a box labctl/lab that somebody made to Vagrant; its checksum is compared."""
    from labctl.actions.box import add, provider_here

    chosen = provider or provider_here()
    _require_one_of(chosen, _box_takers())
    with open_console(quiet=quiet) as console:
        found = add(source, chosen, lambda text: None if quiet else console.say(text))
        if not found.checked:
            console.say(
                tr("{path}: not compared with a checksum, for there is none beside it",
                   path=found.box.file.name)
            )  # fmt: skip
        console.say(tr("Vagrant has the box {box}", box=f"{found.name} {found.version}"))


def _box_takers() -> list[str]:
    from labctl.actions.box import box_takers

    return box_takers()


def _require_one_of(provider: str, names: list[str]) -> None:
    """Raises LabError (wrong use) for a provider that has no box."""
    if provider not in names:
        raise LabError(
            tr("--provider {provider}: choose {names}",
               provider=provider, names=tr_list(sorted(names))),
            code=EXIT_USAGE,
        )  # fmt: skip
