"""Runs in the Windows of the tests: starts what the tests ask for, as a learner's terminal would.

A question is a line of JSON on standard input, an answer one on standard output.
"""

import base64
import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

# wine hands the variables of Linux on to Windows' programs. Of those only what wine needs stays:
# LC_CTYPE makes its code page.
OF_LINUX = {"LC_CTYPE", "HOME", "WINEPREFIX", "WINEDEBUG", "WINEDLLOVERRIDES", "XDG_RUNTIME_DIR"}
OF_WINDOWS = {
    "ALLUSERSPROFILE", "APPDATA", "COMMONPROGRAMFILES", "COMPUTERNAME", "COMSPEC", "HOMEDRIVE",
    "HOMEPATH", "LOCALAPPDATA", "NUMBER_OF_PROCESSORS", "OS", "PATH", "PATHEXT",
    "PROCESSOR_ARCHITECTURE", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)", "PROGRAMW6432",
    "PUBLIC", "SYSTEMDRIVE", "SYSTEMROOT", "TEMP", "TMP", "USERDOMAIN", "USERNAME", "USERPROFILE",
    "WINDIR",
}  # fmt: skip
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name.upper() in OF_LINUX | OF_WINDOWS
}
LOCK = threading.Lock()


def answer(question: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    process = subprocess.Popen(
        question["argv"],
        cwd=question["directory"],
        env={**ENVIRONMENT, **question["env"]},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(timeout=question["timeout"])
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += b"\n(killed by the tests: it took too long)"
    return {
        "code": process.returncode,
        "stdout": base64.b64encode(out).decode(),
        "stderr": base64.b64encode(err).decode(),
        "seconds": time.monotonic() - began,
    }


def serve(question: dict[str, Any]) -> None:
    try:
        told = answer(question)
    except Exception as error:
        told = {"error": repr(error)}
    with LOCK:
        sys.stdout.write(json.dumps({"number": question["number"], **told}) + "\n")
        sys.stdout.flush()


for line in sys.stdin:
    threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()
