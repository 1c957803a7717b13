"""Where the files of labctl are that are not Python.

In a checkout `provision/` and `Vagrantfile.j2` are at the top level, where readers look for them.
In a wheel they are inside the package, in `_assets/` (see pyproject.toml). Lessons are part of the
package in both.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def assets(package: Path = PACKAGE) -> Path:
    """The directory that holds `provision/` and `Vagrantfile.j2`. Raises FileNotFoundError."""
    in_wheel, in_checkout = package / "_assets", package.parent
    for directory in (in_wheel, in_checkout):
        # Not just any directory of that name: site-packages/provision may be another project's.
        if (directory / "provision" / "lib.sh").is_file():
            return directory
    raise FileNotFoundError(
        f"labctl's own files are missing: provision/ is neither in {in_wheel} nor in {in_checkout}."
        " Install labctl again, or run it from a complete checkout."
    )


def course_file(package: Path = PACKAGE) -> Path:
    """The file that puts the built-in lessons in order."""
    return package / "course.yaml"


def lessons(package: Path = PACKAGE) -> Path:
    """The directory that holds the built-in lessons."""
    return package / "lessons"
