"""The recipe: pictures of clothes that move in one of eight directions.

It is not Kinetics, whose 240,000 films of human actions the paper takes, and there is
no set of labelled films that installs from a registry. Clips are made instead: a thing
of Fashion-MNIST, at a quarter of its resolution, moves straight on over another one
that stands still. No single frame says which of the two moves, or where to. The things
that are tested on are of the set's own test part.
"""

import functools

from experiments.lab import Size, plan
from experiments.training import Config
from experiments.video.paths import Shape
from flax_gn import models

NORMS = ("bn", "gn")
DEVICES = 1
SHAPE = Shape(frames=6, side=20, fastest=2)
HALVINGS = 2  # of the things, to 7x7
TEST = 256  # clips
TEST_SEED = 2**31  # of no run
EPOCH = 256  # clips
EVALUATION_BATCH = 64
RATE = 0.128  # per 256 clips: 0.004 for 8
SIZES = {
    "default": Size(epochs=90, batches=(8, 4), seeds=3),
    "quick": Size(epochs=1, batches=(4,), seeds=1),
}

network = functools.partial(models.I3D, width=8, stages=(1, 1), stem=(3, 5))


def configs(norms: tuple[str, ...], size: Size) -> list[Config]:
    """One config per norm, batch and seed.

    Raises:
      ValueError: a batch does not divide the clips of an epoch.
    """
    return plan.grid(
        norms,
        size,
        dict.fromkeys(norms, RATE),
        devices=DEVICES,
        epoch_examples=EPOCH,
        augment=False,
        evaluation_batch=EVALUATION_BATCH,
        **plan.ADAM,
    )
