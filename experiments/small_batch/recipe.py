"""The recipe: what the runs have in common, and how long they are.

A ResNet-14: two blocks per stage, 16, 32 and 64 channels, and a stem that quarters the
sides, as ResNet-50's does on ImageNet. A CPU becomes two devices: with eight, as the
paper has, the mean gradient hides most of batch norm's noise at this size, and an epoch
of 10,000 images is 39 steps at 32 examples per device, too few for either norm.

As in the paper: He initialisation, zero scale in each block's last norm, weight decay
1e-4 on all parameters, momentum 0.9, a learning rate linear in the batch and without
warm-up, the same number of epochs at every batch size, the median error of the last
epochs. Unlike it: the learning rate falls along a cosine, since a short budget has no
room for three plateaus; images are flipped and shifted by up to two pixels; groups have
8 channels each, since 32 groups are more than these narrow layers can be cut into.

The peak learning rate comes from the same short search for each norm,
`experiments.lab.search`, at 32 examples per device, where batch norm is at its best, on
training images held out. No other batch is searched for, for either norm.

What to know when reading the results: the same epochs are 32 times fewer steps at 32
examples per device than at 1. Small batches gain from that, whatever the norm; group
norm shows how much.
"""

import dataclasses
import functools

from experiments.lab import Size, plan, search
from experiments.lab.results import last_epochs
from experiments.small_batch.results import GHOST
from experiments.training import Config
from experiments.training.norms import GHOSTS
from flax_gn import models

__all__ = [
    "CHOICES",
    "NORMS",
    "RATES",
    "SIZES",
    "configs",
    "last_epochs",
    "network",
]

NORMS = ("bn", "gn")
CHOICES = ("bn", "gn", "ln", "in", "sync", "ghost")
DEVICES = 2  # of a CPU
# Per 256 examples: the best of the search for each norm.
RATES = {norm: search.best("small_batch", norm) for norm in ("bn", "gn", "ln", "in")}
_OTHERS = {"sync": RATES["bn"]}

network = functools.partial(
    models.ResNet,
    stages=(2, 2, 2),
    block=models.BasicBlock,
    width=16,
    stem="quartering",
)
# One block a stage, for `analysis`.
shallow = functools.partial(
    models.ResNet,
    stages=(1, 1, 1),
    block=models.BasicBlock,
    width=16,
    stem="quartering",
)


SIZES = {
    "default": Size(epochs=8, batches=(32, 8, 2, 1), seeds=1),
    "quick": Size(epochs=2, batches=(32, 1), seeds=1, examples=2560),
    "full": Size(epochs=12, batches=(32, 16, 8, 4, 2, 1), seeds=3),
}


def configs(
    norms: tuple[str, ...],
    size: Size,
    *,
    devices: int,
    available: int,
    parallelism: str = "pmap",
) -> list[Config]:
    """One config per norm, batch and seed; every one sees the same examples.

    With "ghost" the batch is the largest throughout, and batch norm takes its
    statistics over as many of its examples as the other norms have in theirs: the
    noise of small batches without their many steps.

    Raises:
      ValueError: there are fewer examples than the largest batch takes, or "sync" is
        asked for where there are no devices to synchronise.
    """
    if "sync" in norms and parallelism != "pmap":
        raise ValueError(
            "expected --parallelism pmap with the norm 'sync'; under jit 'bn' itself "
            "sees the whole batch: ask for that one"
        )
    largest = max(size.batches)
    parts = [batch for batch in size.batches if batch < largest]
    if GHOST in norms and not set(parts) <= set(GHOSTS):
        raise ValueError(
            f"expected batch sizes of {GHOSTS} below the largest for the norm "
            f"{GHOST!r}, got {parts}"
        )
    made = plan.configs(
        [norm for norm in norms if norm != GHOST],
        size,
        RATES | _OTHERS,
        devices=devices,
        available=available,
        parallelism=parallelism,
    )
    if GHOST not in norms:
        return made
    ghosts = [f"{GHOST}{part}" for part in parts]
    return made + plan.configs(
        ghosts,
        dataclasses.replace(size, batches=(largest,)),
        dict.fromkeys(ghosts, RATES["bn"]),
        devices=devices,
        available=available,
        parallelism=parallelism,
    )
