#!/usr/bin/env python3
"""Records what a real lab's APIs answer to probes, as tests/golden/openstack/MOMENT.api.json.

usage: sudo python scripts/record-openstack.py LAB.YAML MOMENT
`day-begins` is a lab right after `labctl create`, `day-done` one after `labctl replay floating-ip`.
No password, token or key of the lab is written. Then LABCTL_UPDATE_GOLDEN=1 pytest
tests/unit/probes/test_probes.py writes what the probes make of it, MOMENT.rows.json: read both.
"""

import json
import re
import sys
from collections.abc import Collection
from dataclasses import astuple
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from labctl.lab import Lab
from labctl.probes import ProbeContext
from labctl.probes.openstack import PROBES

GOLDEN = Path(__file__).parents[1] / "tests/golden/openstack"
REMOVED = "removed"
_SECRET = {"password", "original_password", "adminPass", "secret", "blob", "private_key",
           "public_key", "user_data"}  # fmt: skip
_KEY = r"\b(?:ssh|ecdsa)-[\w-]+ AAAA\S+( \S+@\S+)?|-----BEGIN [^\0]+"
_TOKEN = re.compile(rf"\bgAAAA[\w=-]+|{_KEY}")
_TOKEN_HEADERS = ("X-Auth-Token", "X-Subject-Token")


def scrubbed(data: Any, secrets: Collection[str]) -> Any:
    """`data` without these secrets, and without what by its name or its look is one."""
    match data:
        case dict():
            return {
                key: REMOVED if key in _SECRET and one else scrubbed(one, secrets)
                for key, one in data.items()
            }
        case list():
            return [scrubbed(one, secrets) for one in data]
        case str():
            for secret in secrets:
                data = data.replace(secret, REMOVED)
            return _TOKEN.sub(REMOVED, data)
    return data


def record(sight: ProbeContext, secrets: Collection[str]) -> dict[str, Any]:
    """What is answered while every probe of OpenStack looks: {request: its status and body}.

    The body of a request, which holds the password, is not kept, and no header is.
    """
    heard: dict[str, Any] = {}
    hidden = {*secrets}

    def hear(response: Any, *_: Any, **__: Any) -> None:
        for headers in (response.headers, response.request.headers):
            hidden.update(headers[name] for name in _TOKEN_HEADERS if name in headers)
        body = response.json() if response.content else {}
        request = f"{response.request.method} {response.request.url}"
        heard.setdefault(request, {"status": response.status_code, "body": body})

    # What is told to the transport is told of every request, those of the login included.
    sight.cloud().session.session.hooks["response"].append(hear)
    for probe in PROBES.values():
        probe(sight, {})
    cleaned: dict[str, Any] = scrubbed(heard, hidden - {""})
    return cleaned


def main(lab_file: str, moment: str) -> None:
    """Ask the lab and write the file."""
    lab = Lab(Path(lab_file))
    cloud = lab.cloud()
    sight = ProbeContext(lab.topology, lambda: cloud, lab.guest)
    recorded = record(sight, astuple(lab.state.secrets()))
    text = json.dumps(recorded, indent=1, ensure_ascii=False) + "\n"
    (GOLDEN / f"{moment}.api.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
