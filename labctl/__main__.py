"""`python -m labctl` is the command `labctl`."""

import sys

from labctl.cli import main

if __name__ == "__main__":
    sys.exit(main())
