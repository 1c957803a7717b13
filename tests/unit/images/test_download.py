"""Images from a URL: fetched once, whole or not at all."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from labctl.errors import Cancelled, LabError
from labctl.images.download import download
from tests.unit.images.web import serving

CONTENT = bytes(range(256)) * 10_000  # 2.56 MB: more than one chunk


@dataclass
class Site:
    """A web server on the loopback interface."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site()

    def answer(request: BaseHTTPRequestHandler) -> None:
        made.asked.append(request.path)
        made.accepted.append(request.headers.get("Accept-Encoding", ""))
        if request.path.startswith("/missing"):
            request.send_error(404)
            return
        request.send_response(200)
        if "nolength" not in request.path:
            request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT[:100_000] if "cut" in request.path else CONTENT)

    with serving(answer, monkeypatch) as made.url:
        yield made


def get(url: str, directory: Path, said: list[str] | None = None) -> Path:
    progress: list[str] = [] if said is None else said
    return download(url, directory, progress.append, lambda: False, field="image.source")


def test_a_file_is_fetched_once_and_kept(site: Site, tmp_path: Path) -> None:
    said: list[str] = []
    path = get(f"{site.url}/images/cirros.img", tmp_path / "new", said)
    assert path.read_bytes() == CONTENT
    assert re.fullmatch("[0-9a-f]{12}-cirros.img", path.name)
    assert said[-1] == "3 of 3 MB"
    assert get(f"{site.url}/images/cirros.img", tmp_path / "new") == path
    assert site.asked == ["/images/cirros.img"]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_same_name_elsewhere_is_another_file(site: Site, tmp_path: Path) -> None:
    names = ["/a/x.img", "/b/x.img", "/a/x.img?v=2", "/"]
    paths = {get(site.url + name, tmp_path) for name in names}
    assert len(paths) == len(names)


def test_it_asks_for_the_bytes_as_they_are(site: Site, tmp_path: Path) -> None:
    # A packed body has another length than the header tells.
    get(f"{site.url}/x", tmp_path)
    assert site.accepted == ["identity"]


def test_without_a_length_it_is_fetched_too(site: Site, tmp_path: Path) -> None:
    said: list[str] = []
    assert get(f"{site.url}/nolength", tmp_path, said).read_bytes() == CONTENT
    assert said[-1] == "3 MB"


def test_a_name_longer_than_a_file_may_have(site: Site, tmp_path: Path) -> None:
    assert get(f"{site.url}/{'x' * 300}.img", tmp_path).name.endswith("x.img")


@pytest.mark.parametrize("path", ["/missing.img", "/cut.img"])
def test_what_fails_names_the_url_and_leaves_nothing(site: Site, tmp_path: Path, path: str) -> None:
    with pytest.raises(LabError) as error:
        get(site.url + path, tmp_path)
    assert f"image.source: {site.url}{path} cannot be fetched" in error.value.message
    assert "name a file on this machine" in error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_nobody_there(tmp_path: Path, site: Site) -> None:
    with pytest.raises(LabError, match="cannot be fetched"):
        get("http://127.0.0.1:1/x.img", tmp_path)
    with pytest.raises(LabError, match="cannot be fetched"):
        get("http://:80/x.img", tmp_path)


def test_cancelling_leaves_nothing(site: Site, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(Cancelled):
        download(f"{site.url}/x.img", tmp_path, said.append, lambda: len(said) == 1)
    assert len(said) == 1
    assert list(tmp_path.iterdir()) == []
