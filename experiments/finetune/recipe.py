"""The recipe: the ResNet-14 of `small_batch` with batch norm, and four ways to go on.

It is trained at 32 examples per device. From there it goes on at 2 per device, with

- "bn": batch norm as before, by the statistics of each device's 2 examples;
- "frozen": batch norm by its running averages, which no longer change;
- "gn": group norm in its place, by `flax_gn.convert` with the averages folded in;
- "gn+ws": likewise, and weight standardisation in the convolutions.

Each has the learning rate that `experiments.lab.search` found for it.
"""

from experiments.lab import Size, plan, search
from experiments.small_batch import recipe
from experiments.training import Config

# The norm that is trained, and the convolution, which stands for the network's name.
ARMS = {
    "bn": ("bn", "plain"),
    "frozen": ("frozen", "plain"),
    "gn": ("gn", "plain"),
    "gn+ws": ("gn", "ws"),
}
TITLES = {
    "bn": "batch norm",
    "frozen": "frozen batch norm",
    "gn": "group norm",
    "gn+ws": "group norm, weights standardised",
}
PRETRAINING = "pretraining"  # the network's name in the configs before
RATES = {arm: search.best("finetune", arm) for arm in ARMS}

SIZES = {
    "default": Size(epochs=8, batches=(2,), seeds=5),
    "quick": Size(epochs=1, batches=(2,), seeds=1, examples=512),
    "full": Size(epochs=10, batches=(2,), seeds=5),
}
# Before that, at 32 examples per device.
EPOCHS_BEFORE = {"default": 20, "quick": 2, "full": 60}


def configs(
    arms: tuple[str, ...],
    size: Size,
    before: int,
    *,
    devices: int,
    available: int,
    parallelism: str = "pmap",
) -> list[Config]:
    """The batch-norm networks, and then every arm for each of them.

    Args:
      arms: names of `ARMS`.
      size: of what comes after.
      before: epochs of the batch-norm networks.
      devices: that share a step.
      available: training examples.
      parallelism: as in `Config`.
    """
    shared = {"devices": devices, "available": available, "parallelism": parallelism}
    first = Size(before, (32,), size.seeds, size.examples)
    runs = plan.configs(("bn",), first, recipe.RATES, networks=(PRETRAINING,), **shared)
    for arm in arms:
        norm, conv = ARMS[arm]
        rates = {norm: RATES[arm]}
        runs += plan.configs((norm,), size, rates, networks=(conv,), **shared)
    return runs


def arm(run: dict) -> str | None:
    """The arm of a row of the record; None before."""
    where = {place: name for name, place in ARMS.items()}
    return where.get((run["norm"], run["network"]))
