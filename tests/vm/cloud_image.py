"""A disk that plays Debian's cloud image: cloud_image.sh in the baked image of containers."""

import shutil
import subprocess
import sys
from pathlib import Path

from labctl.assets import assets
from labctl.images.baked import DIES_WITH_LABCTL, ImageCache
from labctl.state import cache_directory

SCRIPT = Path(__file__).with_suffix(".sh")


def make(target: Path, mirror: str) -> None:
    """Make the directory `target` with `disk.raw` and `repo`, what is to be served at `mirror`.

    Needs root and a Debian mirror.
    """
    images = ImageCache(cache_directory(), assets() / "provision")
    area = images.root / "cloud-image-for-tests"
    shutil.rmtree(area, ignore_errors=True)
    area.mkdir(mode=0o700, parents=True)
    provision = area / "provision"
    shutil.copytree(assets() / "provision", provision)
    shutil.copy2(SCRIPT, provision / "image" / "box")
    for name in ("root", "work", "merged", "out"):
        (area / name).mkdir()
    try:
        image = images.build(log=area / "log", progress=lambda text: None, cancel=lambda: False)
        layers = list(image.layers)

        def run(*words: str) -> None:
            lower = ":".join(str(layer.relative_to(images.root)) for layer in layers)
            subprocess.run(
                [*DIES_WITH_LABCTL, "env", "-C", images.root, "bash",
                 provision / "image" / "box" / "enter.sh", lower, area.name, provision,
                 f"box/{SCRIPT.name}", *words],
                check=True,
            )  # fmt: skip

        run("system", mirror)
        layers.insert(0, area / "layer")
        (area / "root").rename(area / "layer")
        run("disk")
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(area / "out", target)
    finally:
        shutil.rmtree(area, ignore_errors=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]).absolute(), sys.argv[2])
