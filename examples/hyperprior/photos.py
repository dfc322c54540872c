"""Photos to train on, from Debian's wallpapers, and photos to judge by, which training never sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

Photo = npt.NDArray[np.uint8]

HELD_OUT = ("astronaut", "chelsea", "coffee", "rocket")

PACKAGES = (
    "gnome-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds "
    "plasma-workspace-wallpapers"
)
FOLDERS = (Path("/usr/share/backgrounds"), Path("/usr/share/wallpapers"))
WIDTHS = (1400, 900, 600)
# The photographs among the wallpapers, and a painting: file, or folder of Plasma's.
_PHOTOGRAPHS = """
Aqua Blinds Bridge_by_Sander_Klootwijk BytheWater ColdRipple ColorfulCups Dragonfly_by_Bolly Dune
Elephants EveningGlow FallenLeaf FreshFlower Garden GreenMeadow Grey Infinite-Sea_by_Aury88 Kite
Kleiber_by_Lukas_Baubkus LadyBird OneStandsOut Path Picture_0B_by_freespace Picture_1A_by_freespace
RainDrops Storm TwoWings Volna Wine_by_Jakkub_Mede Wood YellowFlower aitzgorri_by_Aitzol_Berasategi
free_by_Peter_Nerlich friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich life_by_Aitzol_Berasategi
picosdeeuropa_by_Aitzol_Berasategi seeding_by_Clements_Engelhardt summer_1am sunset_by_Aitzol_Berasategi
wood-l
""".split()  # noqa: SIM905 - a list would be a line each


def held_out() -> dict[str, Photo]:
    """scikit-image's photos."""
    return {name: getattr(skimage.data, name)() for name in HELD_OUT}


def training_files() -> list[Path]:
    """The photographs that are installed, the largest file of each."""
    found: dict[str, Path] = {}
    for path in sorted(path for folder in FOLDERS for path in folder.rglob("*.*") if path.is_file()):
        for name in {path.stem, path.parent.parent.parent.name} & set(_PHOTOGRAPHS):
            if name not in found or path.stat().st_size > found[name].stat().st_size:
                found[name] = path
    missing = sorted(set(_PHOTOGRAPHS) - set(found))
    if missing:
        raise FileNotFoundError(f"no {', '.join(missing)}: apt-get install {PACKAGES}")
    return [found[name] for name in _PHOTOGRAPHS]


def scaled(path: Path) -> list[Photo]:
    """A photo in each of the widths that are not above its own, antialiased."""
    photos = []
    with Image.open(path) as image:
        image.draft("RGB", (2 * WIDTHS[0], 2 * WIDTHS[0]))
        photo = image.convert("RGB")
    for width in WIDTHS:
        size = width, round(width * photo.height / photo.width)
        photos.append(np.asarray(photo.resize(size, Image.Resampling.LANCZOS)))
    return photos
