"""The set that the committed record is of: trees in two aerial pictures.

All of the smaller picture is the first site, the upper two thirds of the larger one are
the second, and its lower third is tested on.
"""

import functools
import pathlib

from experiments.data import trees
from experiments.data.boxed import Picture
from experiments.detection import tiles
from experiments.detection.sets import NORMS, Set, Sites, Words
from experiments.detection.sources import Aerial, Held
from experiments.lab import Size, search
from flax_gn import models

SHAPE = tiles.Shape(side=96, most=40)  # 19 m; the most in one is 23


def sites(larger: Picture, smaller: Picture, shape: tiles.Shape, held: int) -> Sites:
    """From the pictures as they are published, at half their resolution.

    Args:
      larger: of the second site.
      smaller: of the first.
      shape: of the tiles.
      held: rows of the larger picture to be tested on, at half its resolution.

    Raises:
      ValueError: the larger one is too small to hold tiles out, or a tile has more
        boxes than ``shape.most``.
    """
    larger, smaller = larger.halved(), smaller.halved()
    height, width = larger.image.shape[:2]
    kept = height - held
    if kept < shape.side:
        raise ValueError(
            f"expected a picture of at least {2 * (held + shape.side)} rows, got "
            f"{2 * height}; take a larger one"
        )
    return Sites(
        first=Aerial(smaller, shape),
        second=Aerial(tiles.cut(larger, 0, 0, kept, width), shape),
        test=Held(tiles.grid(tiles.cut(larger, kept, 0, held, width), shape)),
    )


def read(
    folder: pathlib.Path | None,
    most: int | None,
    *,
    shape: tiles.Shape = SHAPE,
    held: int = 4 * SHAPE.side,
) -> Sites:
    """The `Set.sites` of the trees. They are few: all tiles are tested on."""
    del most
    larger, smaller = trees.load(folder)
    return sites(larger, smaller, shape, held)


TREES = Set(
    sites=read,
    network=functools.partial(models.FCOS, stages=(1, 1, 1), width=16, features=32),
    shape=SHAPE,
    reach=4.0,  # trees are small
    candidates=100,
    devices=2,
    epoch=96,
    first_batch=16,
    evaluation_batch=22,  # of 44 tiles
    rate_first=0.032,
    rates={norm: search.best("detection", norm) for norm in NORMS},
    sizes={
        "default": Size(epochs=60, batches=(1, 2), seeds=5),
        "quick": Size(epochs=2, batches=(1,), seeds=1),
    },
    words=Words(
        tiles="tiles",
        objects="trees",
        test="the strip held out",
        tested="the held-out strip",
        again="the same strip",
        first="the other site",
        pixels="pixels of 0.2 m",
    ),
)
