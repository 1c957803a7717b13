"""Images and boxes that are named by URL: downloaded once, and kept in the cache if complete."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from labctl.errors import Cancelled, LabError
from labctl.i18n import tr


def download(
    url: str,
    directory: Path,
    progress: Callable[[str], None],
    cancelled: Callable[[], bool],
    *,
    keep: bool = True,
    field: str = "",
) -> Path:
    """The file at an http(s) URL, from the cache if it was downloaded before, unless not `keep`.

    `field` is that of lab.yaml which names the URL, if one does, for the error. Uses the proxy of
    the environment. Raises LabError, which names the URL, and Cancelled.
    """
    import requests

    name = Path(urlsplit(url).path).name[-100:] or "image"
    target = directory / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    if keep and target.exists():
        return target
    directory.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + f".{os.getpid()}.partial")
    try:
        # No compression: the header gives the compressed length, and could not be compared.
        plain = {"Accept-Encoding": "identity"}
        with (
            requests.get(url, headers=plain, stream=True, timeout=30) as response,
            partial.open("wb") as sink,
        ):
            response.raise_for_status()
            packed = "Content-Encoding" in response.headers
            total = 0 if packed else int(response.headers.get("Content-Length", 0))
            for chunk in response.iter_content(1 << 20):
                if cancelled():
                    raise Cancelled(url)
                sink.write(chunk)
                done = sink.tell() / 1e6
                progress(
                    tr("{done} of {total} MB", done=f"{done:.0f}", total=f"{total / 1e6:.0f}")
                    if total
                    else f"{done:.0f} MB"
                )
            if total and sink.tell() != total:
                raise OSError(
                    tr("only {n} of {total} bytes were received", n=sink.tell(), total=total)
                )
        partial.replace(target)
    except (OSError, ValueError, requests.RequestException) as error:
        raise LabError(
            tr("{field}: {url} cannot be fetched: {error}", field=field, url=url, error=error)
            if field
            else tr("{url} cannot be fetched: {error}", url=url, error=error),
            hint=tr("check the address and the network, or name a file on this machine"),
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return target
