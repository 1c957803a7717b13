"""Where the files are that labctl carries and that are not Python.

In a checkout `provision/` and `Vagrantfile.j2` lie at the top level, where a reader looks for them.
A wheel carries them inside the package, under `_assets/` (pyproject.toml says so). Lessons are part
of the package in both.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def assets(package: Path = PACKAGE) -> Path:
    """The directory that holds `provision/` and `Vagrantfile.j2`."""
    in_wheel, in_checkout = package / "_assets", package.parent
    for directory in (in_wheel, in_checkout):
        # lib.sh and not only the name: a stranger's site-packages/provision is not ours.
        if (directory / "provision" / "lib.sh").is_file():
            return directory
    raise FileNotFoundError(
        f"labctl's own files are missing: provision/ is neither in {in_wheel} nor in {in_checkout}."
        " Install labctl again, or run it from a complete checkout."
    )


def lessons(package: Path = PACKAGE) -> Path:
    """The directory that holds the built-in lessons."""
    return package / "lessons"
