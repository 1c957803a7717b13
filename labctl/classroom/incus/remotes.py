"""The servers that the command `incus` knows: its configuration is read, and never written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr

_LOCAL = {"addr": "unix://", "protocol": "incus"}


@dataclass(frozen=True)
class Remote:
    """A server of `incus remote list`, and how it is reached."""

    name: str
    project: str
    url: str = ""
    """https://HOST:PORT; empty for a Unix socket."""
    sockets: tuple[Path, ...] = ()
    """Where the Unix socket may be; the first that is there is used."""
    client: tuple[Path, Path] | None = None
    """The client's certificate and its key."""
    pinned: Path | None = None
    """The server's certificate, where it is not signed by an authority."""

    @property
    def host(self) -> str:
        """The host in its URL; empty for a Unix socket."""
        return urlsplit(self.url).hostname or ""


def configuration() -> Path:
    """The directory of the incus client's configuration, as that client looks for it."""
    return Path(os.environ.get("INCUS_CONF") or Path.home() / ".config" / "incus")


def find(name: str | None) -> Remote:
    """The remote of that name; None: the client's default. Raises LabError."""
    directory = configuration()
    settings = _settings(directory)
    name = name or str(settings.get("default-remote") or "local")
    remote = _remotes(settings).get(name)
    if remote is None:
        raise LabError(
            tr("the incus client knows no server {name}", name=repr(name)),
            hint=tr("look with {command}; docs/class.md tells how one is added",
                    command="incus remote list"),
            code=EXIT_USAGE,
        )  # fmt: skip
    if remote.get("protocol", "incus") != "incus" or remote.get("public"):
        raise LabError(tr("the server {name} has images only", name=repr(name)), code=EXIT_USAGE)
    address = str(remote.get("addr", ""))
    project = str(remote.get("project") or "default")
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        return Remote(name, project, sockets=(Path(path),) if path else _sockets())
    if remote.get("auth_type") == "oidc":
        raise LabError(
            tr("labctl logs in to Incus by certificate, and {name} is set up for OpenID Connect",
               name=repr(name)),
            hint=tr("add the server once more, with a token of {command}",
                    command="incus config trust add NAME"),
            code=EXIT_USAGE,
        )  # fmt: skip
    client = (directory / "client.crt", directory / "client.key")
    for file in client:
        if not file.is_file():
            raise LabError(tr("there is no file {path}", path=file), code=EXIT_USAGE)
    pinned = directory / "servercerts" / f"{name}.crt"
    return Remote(name, project, address.rstrip("/"), client=client,
                  pinned=pinned if pinned.is_file() else None)  # fmt: skip


def image_source(name: str) -> dict[str, str]:
    """What tells a server to fetch the image REMOTE:ALIAS. Raises LabError."""
    server, _, alias = name.partition(":")
    remote = _remotes(_settings(configuration())).get(server)
    if remote is None or remote.get("protocol") != "simplestreams":
        raise LabError(
            tr("the incus client knows no server of images {name}", name=repr(server)),
            hint=tr("look with {command}; docs/class.md tells how one is added",
                    command="incus remote list"),
            code=EXIT_USAGE,
        )  # fmt: skip
    return {"mode": "pull", "protocol": "simplestreams", "server": str(remote.get("addr", "")),
            "alias": alias}  # fmt: skip


def _settings(directory: Path) -> Mapping[str, Any]:
    path = directory / "config.yml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LabError(
            tr("{path} cannot be read: {error}", path=path, error=" ".join(str(error).split())),
            code=EXIT_USAGE,
        ) from error
    return settings if isinstance(settings, dict) else {}


def _remotes(settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    remotes = settings.get("remotes")
    known = remotes if isinstance(remotes, dict) else {}
    return {"local": _LOCAL, **{str(name): each for name, each in known.items()
                                if isinstance(each, dict)}}  # fmt: skip


def _sockets() -> tuple[Path, ...]:
    """Where Incus has its socket; users of the group incus have one of their own."""
    if socket := os.environ.get("INCUS_SOCKET"):
        return (Path(socket),)
    directories = ([Path(os.environ["INCUS_DIR"])] if os.environ.get("INCUS_DIR")
                   else [Path("/run/incus"), Path("/var/lib/incus")])  # fmt: skip
    return tuple(directory / name for name in ("unix.socket", "unix.socket.user")
                 for directory in directories)  # fmt: skip
