"""Files that are not Python are found from a checkout and from a wheel."""

from pathlib import Path

import pytest

from labctl.assets import assets, lessons

ROOT = Path(__file__).parents[2]


def a_provision_folder(where: Path) -> Path:
    (where / "provision").mkdir(parents=True)
    (where / "provision" / "lib.sh").touch()
    return where


def test_this_checkout_is_found() -> None:
    assert assets() == ROOT
    assert lessons() == ROOT / "labctl" / "lessons"


def test_a_wheel_carries_them_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "labctl"
    in_wheel = a_provision_folder(package / "_assets")
    assert assets(package) == in_wheel
    assert lessons(package) == package / "lessons"


def test_the_wheels_own_win_over_a_neighbours(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "labctl"
    in_wheel = a_provision_folder(package / "_assets")
    a_provision_folder(package.parent)
    assert assets(package) == in_wheel


def test_a_neighbours_folder_of_that_name_is_not_ours(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "labctl"
    (package.parent / "provision").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="Install labctl again"):
        assets(package)
