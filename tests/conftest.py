"""What every test may rely on: the level's marker and time limit, examples, and `require`."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).parent

# What was done of the course is kept in the user's home directory: no test writes into a real one.
_COURSE = tempfile.TemporaryDirectory(prefix="labctl-course-")
os.environ["LABCTL_COURSE"] = str(Path(_COURSE.name) / "course.json")

# Seconds one test may take, with what its fixtures take; a test that needs more says
# @pytest.mark.timeout(N). Generous: the limit is for what hangs, not for what is slow.
LEVELS = {
    "unit": 60,
    "integration": 300,
    "e2e": 2400,
    "vm": 3600,
    "arm64": 4 * 3600,
    "windows": 900,
}

# How many examples a property is tried with; --hypothesis-profile=NAME chooses.
EXAMPLES = {"some": 25, "full": 300}
for name, number in EXAMPLES.items():
    settings.register_profile(
        name,
        max_examples=number,
        deadline=None,  # the time limit of the level is enough, on a busy machine too
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile("some")

# Whatever `nohup`, or `&` in a script, starts ignores Ctrl-C; some tests are about Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder a test is in is its level: nobody has to remember the marker."""
    for item in items:
        level = item.path.relative_to(TESTS).parts[0]
        if level not in LEVELS:
            raise pytest.UsageError(f"{item.nodeid}: a test belongs in one of {', '.join(LEVELS)}")
        item.add_marker(level)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LEVELS[level]))


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """`require("mmdebstrap", "ip", root=True)`: what this test cannot do without.

    On a developer's machine the test is skipped, with the reason. In CI it fails: a run that
    tested nothing must not be green.
    """

    def require(*commands: str, root: bool = False) -> None:
        # Debian leaves the sbin directories out of a user's PATH.
        path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin"
        lacks = [command for command in commands if shutil.which(command, path=path) is None]
        if root and os.geteuid() != 0:
            lacks.append("root")
        if not lacks:
            return
        reason = f"this machine lacks {', '.join(lacks)}; `make setup` installs what labctl needs"
        if in_ci():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def leave_to_ci() -> Callable[[Sequence[str], str], None]:
    """`leave_to_ci(lines, advice)`: what is still to be done before this can be released.

    Whoever changes an English sentence need not know Chinese: on a developer's machine the test is
    skipped, with the list. In CI it fails.
    """

    def leave_to_ci(lines: Sequence[str], advice: str) -> None:
        if not lines:
            return
        reason = "\n".join([*lines, advice])
        if in_ci():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    return leave_to_ci
