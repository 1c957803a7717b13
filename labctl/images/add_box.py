"""`labctl box add`: a box that somebody made, from a file or from a web server, into Vagrant.

What is named is a box (*.box) or the catalogue of boxes that `labctl box build` and
`labctl box get` write (labctl-lab.json). In a catalogue the `url` of a box is a file name, beside
the catalogue, or an http(s) address.

Vagrant refuses a catalogue in a directory with blanks or letters beyond ASCII (`URL rejected: Bad
path`), so both are put into one without, for as long as Vagrant reads them.
"""

import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from labctl.errors import EXIT_USAGE, LabError
from labctl.i18n import tr, tr_list
from labctl.images.box_file import CATALOGUE, BuiltBox, box_name, catalogue, sha256
from labctl.images.download import download
from labctl.spec.fields import OWN_BOX

Progress = Callable[[str], None]
Cancel = Callable[[], bool]


@dataclass(frozen=True)
class FoundBox:
    """A box on this machine, whose checksum is right as far as one was given."""

    name: str
    version: str
    box: BuiltBox
    checked: bool
    """A checksum was given."""


def is_url(source: str) -> bool:
    """Whether the source is a web address, and no file."""
    return source.lower().startswith(("http://", "https://"))


def find_box(
    source: str, provider: str, architecture: str, cache: Path, progress: Progress, cancel: Cancel
) -> FoundBox:
    """The box that `source` (a file or URL of a box or catalogue) offers for the provider.

    Downloads go to `cache`. Raises LabError when there is none, or it is not what its checksum
    says; Cancelled.
    """
    path = urlsplit(source).path if is_url(source) else source
    if not path.endswith(".json"):
        file = _local(source, cache, progress, cancel)
        listed = _entry_beside(source, file)
        return _vetted(file, source, listed.get("checksum", ""), architecture, progress)
    catalogue_file = (
        download(source, cache, progress, cancel, keep=False) if is_url(source) else Path(source)
    )
    document = _read_catalogue(catalogue_file, source)
    if is_url(source):
        catalogue_file.unlink()
    entry = _choose(document, provider, architecture, source)
    place = str(entry["url"])
    if not is_url(place):
        place = urljoin(source, place) if is_url(source) else str(Path(source).parent / place)
    file = _local(place, cache, progress, cancel)
    return _vetted(file, place, str(entry.get("checksum") or ""), architecture, progress)


def _local(source: str, cache: Path, progress: Progress, cancel: Cancel) -> Path:
    if is_url(source):
        return download(source, cache, progress, cancel)
    file = Path(source).absolute()  # Vagrant runs in a directory of its own
    if not file.is_file():
        raise LabError(
            tr("{path} is no file", path=source),
            hint=tr("name the file of a box (*.box), its catalogue ({name}), or a URL of one",
                    name=CATALOGUE),
            code=EXIT_USAGE,
        )  # fmt: skip
    return file


def _read_catalogue(file: Path, source: str) -> Mapping[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        for version in document["versions"]:
            for entry in version["providers"]:
                entry["name"], entry["url"]
            str(version["version"])
    except OSError as error:
        raise LabError(
            tr("{path} cannot be read: {error}", path=source, error=error.strerror),
            code=EXIT_USAGE,
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(
            tr("{path} is no catalogue of boxes", path=source),
            hint=tr("`labctl box build` and `labctl box get --output` write one: {name}",
                    name=CATALOGUE),
            code=EXIT_USAGE,
        ) from error  # fmt: skip
    assert isinstance(document, dict)
    return document


def _choose(
    document: Mapping[str, Any], provider: str, architecture: str, source: str
) -> Mapping[str, Any]:
    """The entry of the newest version that fits."""
    newest = sorted(document["versions"], key=lambda version: _numbers(str(version["version"])))
    offered = []
    for version in reversed(newest):
        for entry in version["providers"]:
            offered.append(f"{entry['name']} ({entry.get('architecture', '?')})")
            if entry["name"] == provider and entry.get("architecture", architecture) in (
                architecture,
                "unknown",
            ):
                return dict(entry)
    raise LabError(
        tr("{path} has no box for {provider} on {architecture}",
           path=source, provider=provider, architecture=architecture),
        hint=tr("it has boxes for {names}", names=tr_list(sorted(set(offered))) or "?"),
        code=EXIT_USAGE,
    )  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _entry_beside(source: str, file: Path) -> Mapping[str, Any]:
    """What the catalogue beside a local box says of it; {} if there is none."""
    if is_url(source):
        return {}
    with suppress(LabError):
        document = _read_catalogue(file.parent / CATALOGUE, source)
        for version in document["versions"]:
            for entry in version["providers"]:
                if entry["url"] == file.name:
                    return dict(entry)
    return {}


def _vetted(
    file: Path, source: str, checksum: str, architecture: str, progress: Progress
) -> FoundBox:
    """The box in a file. Raises LabError if it is none, or not the one of the checksum."""
    progress(tr("checking {name}", name=file.name))
    found = sha256(file)
    if checksum and found != checksum.lower():
        if is_url(source):
            file.unlink()  # else it would be taken from the cache the next time
        raise LabError(
            tr("{path} is not what its checksum says: SHA-256 is {found}…, {expected}… is wanted",
               path=source, found=found[:16], expected=checksum[:16]),
            hint=tr("fetch the file again from where it was made"),
        )  # fmt: skip
    metadata = _metadata(file, source)
    made_for = metadata.get("architecture", architecture)
    if made_for != architecture:
        raise LabError(
            tr("{path} is a box for {made_for}; this machine is {architecture}",
               path=source, made_for=made_for, architecture=architecture),
            code=EXIT_USAGE,
        )  # fmt: skip
    own = metadata.get("labctl")
    version = str(own.get("version", "0")) if isinstance(own, dict) else "0"
    box = BuiltBox(
        str(metadata["provider"]), file, file.stat().st_size, found, architecture=architecture
    )
    return FoundBox(OWN_BOX, version, box, bool(checksum))


def _metadata(file: Path, source: str) -> Mapping[str, Any]:
    """metadata.json of a box: a tar, compressed or not. Raises LabError if it has none."""
    try:
        with tarfile.open(file, "r|*") as archive:
            for member in archive:
                if member.name.removeprefix("./") == "metadata.json" and member.isfile():
                    content = archive.extractfile(member)
                    assert content is not None  # a regular file has one
                    metadata = json.loads(content.read(1 << 20))
                    if isinstance(metadata, dict) and "provider" in metadata:
                        return metadata
                    break
    except (tarfile.TarError, EOFError, ValueError):
        pass
    raise LabError(tr("{path} is no Vagrant box", path=source), code=EXIT_USAGE)


@contextmanager
def for_vagrant(found: FoundBox, places: Iterable[Path]) -> Iterator[Path]:
    """A directory with the box and its catalogue, which Vagrant can read, while the context lasts.

    `places` are directories to make it in; the first that can be written and has a path of ASCII
    without blanks is taken. Raises LabError.
    """
    with tempfile.TemporaryDirectory(prefix="labctl-box-", dir=ascii_directory(places)) as name:
        directory = Path(name)
        file = directory / box_name(found.version, found.box.provider, found.box.architecture)
        try:
            os.link(found.box.file, file)  # as good as a copy, at once, where it is possible
        except OSError:
            try:
                shutil.copyfile(found.box.file, file)
            except OSError as error:
                raise LabError(
                    tr("{path} cannot be copied to {target}: {error}",
                       path=found.box.file, target=directory, error=error.strerror)
                ) from error  # fmt: skip
        box = BuiltBox(
            found.box.provider, file, found.box.size, found.box.sha256, found.box.architecture
        )
        document = catalogue(found.version, [box])
        # Whole: Vagrant looks for a mere name where it was started, and not where VAGRANT_CWD is.
        document["versions"][0]["providers"][0]["url"] = file.as_uri()
        text = json.dumps(document, indent=1) + "\n"
        (directory / CATALOGUE).write_text(text, encoding="utf-8")
        yield directory


def ascii_directory(places: Iterable[Path]) -> Path:
    """The first of these directories that Vagrant takes in a path. Raises LabError if none is."""
    tried = []
    for place in places:
        tried.append(str(place))
        if re.fullmatch(r"[\w.~:/\\+-]+", str(place), flags=re.ASCII) is None:
            continue
        with suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            if os.access(place, os.W_OK):
                return place
    raise LabError(
        tr("Vagrant takes no box from a directory with blanks or letters beyond ASCII in its path:"
           " {paths}", paths=tr_list(tried)),
        hint=tr("set LABCTL_CACHE to a directory without, such as {example}",
                example=str(Path(Path.cwd().anchor) / "labctl")),
    )  # fmt: skip
