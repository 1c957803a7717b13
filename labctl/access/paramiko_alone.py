"""paramiko, without the library `invoke`: half of the time that importing paramiko takes.

paramiko runs with it the commands that an ssh_config may have (`Match exec`), and does without
where it is not installed. labctl has paramiko read no such file.
"""

import sys
from typing import Any, cast

_NAME = "invoke"

_hidden = _NAME not in sys.modules
if _hidden:
    sys.modules[_NAME] = cast("Any", None)  # `import invoke` is an ImportError then
try:
    import paramiko
finally:
    if _hidden:
        del sys.modules[_NAME]

__all__ = ["paramiko"]
