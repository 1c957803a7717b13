"""`python -m labctl` is the command `labctl`."""

import sys
from contextlib import suppress
from pathlib import Path

if not sys.flags.safe_path and sys.path:
    # Python puts the current directory first. A lab's directory may be a stranger's: a json.py
    # there is not to be imported. (In a checkout that is not installed, it is where labctl is.)
    with suppress(OSError):  # the current directory was deleted
        first = Path(sys.path[0]).resolve()
        if first == Path.cwd() and first != Path(__file__).resolve().parents[1]:
            del sys.path[0]

from labctl.cli import main

if __name__ == "__main__":
    sys.exit(main())
