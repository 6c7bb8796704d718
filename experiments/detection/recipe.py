"""The recipe: a site to learn on, a site to move to, and what is trained how long.

As in the paper (section 4.2) a network is first trained where a large batch is at hand
and batch norm works, and is then fine-tuned where memory allows one or two pictures
per device. There ImageNet comes first and COCO second. Here both are aerial pictures of
trees, of two sites: all of the smaller picture first, at 16 tiles per device, and then
the upper two thirds of the larger one. The lower third is tested on.

Frozen batch norm, the paper's BN*, is fine-tuned from the weights of batch norm and
with its running averages of the first site, which no longer move. Its scale and shift
learn.

Unlike the paper: every layer has its norm, in the backbone, the pyramid and the heads,
for frozen batch norm as well; weight decay is on all parameters; and Adam takes the
steps, since they are few.
"""

import functools
from typing import NamedTuple

from experiments.data.trees import Picture
from experiments.detection import tiles
from experiments.lab import Size, plan
from experiments.training import Config
from flax_gn import models

NORMS = ("frozen", "bn", "gn")
TITLES = {
    "frozen": "frozen batch norm",
    "bn": "batch norm",
    "gn": "group norm",
}
# Whose weights each starts from.
SOURCES = {"frozen": "bn", "bn": "bn", "gn": "gn"}
DEVICES = 2
SHAPE = tiles.Shape(side=96, most=40)  # 19 m; the most in one is 23
HELD_OUT = 4 * SHAPE.side  # rows of the larger picture, at half its resolution
EPOCH = 96  # tiles
EVALUATION_BATCH = 22  # of 44 tiles
FIRST_BATCH = 16
# Per 256 tiles.
RATE_FIRST, RATE = 0.032, 0.064

SIZES = {
    "default": Size(epochs=30, batches=(1, 2), seeds=3),
    "quick": Size(epochs=2, batches=(1,), seeds=1),
}

network = functools.partial(models.FCOS, stages=(1, 1, 1), width=16, features=32)


class Sites(NamedTuple):
    """What is trained on first, what next, and the tiles that are tested on."""

    first: Picture
    second: Picture
    test: tiles.Tiles


def sites(larger: Picture, smaller: Picture) -> Sites:
    """From the pictures as they are published, at half their resolution.

    Raises:
      ValueError: the larger one is too small to hold tiles out, or a tile has more
        boxes than ``SHAPE.most``.
    """
    larger, smaller = larger.halved(), smaller.halved()
    height, width = larger.image.shape[:2]
    kept = height - HELD_OUT
    if kept < SHAPE.side:
        raise ValueError(
            f"expected a picture of at least {2 * (HELD_OUT + SHAPE.side)} rows, got "
            f"{2 * height}; take a larger one"
        )
    return Sites(
        first=smaller,
        second=tiles.cut(larger, 0, 0, kept, width),
        test=tiles.grid(tiles.cut(larger, kept, 0, HELD_OUT, width), SHAPE),
    )


def first(norm: str, seed: int, epochs: int) -> Config:
    """Training on the first site."""
    return Config(
        norm=norm,
        batch=FIRST_BATCH,
        devices=1,
        seed=seed,
        epochs=epochs,
        epoch_examples=EPOCH,
        rate=RATE_FIRST,
        evaluation_batch=EVALUATION_BATCH,
        **plan.ADAM,
    )


def configs(norms: tuple[str, ...], size: Size) -> list[Config]:
    """Fine-tuning on the second site: one config per norm, batch and seed.

    Raises:
      ValueError: a batch does not divide the tiles of an epoch.
    """
    return plan.grid(
        norms,
        size,
        dict.fromkeys(norms, RATE),
        devices=DEVICES,
        epoch_examples=EPOCH,
        evaluation_batch=EVALUATION_BATCH,
        **plan.ADAM,
    )
