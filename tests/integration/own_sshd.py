"""An OpenSSH server in namespaces of its own."""

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def start_sshd(
    inside: str, words: Sequence[str | Path], log: Path, port: int, shown: Callable[[], str]
) -> "subprocess.Popen[bytes]":
    """Run the script `inside`, which ends as sshd, with these words; return once the port answers.

    Its output is added to `log`; `shown` gives what to say if it does not come up.
    """
    with log.open("ab") as sink:
        process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", inside, *words],
            stdout=sink, stderr=sink, start_new_session=True,
        )  # fmt: skip
    for _ in range(3000):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process
        except OSError:
            assert process.poll() is None, shown()
            time.sleep(0.01)
    process.kill()
    raise AssertionError(shown())
