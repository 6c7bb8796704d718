"""The runs of an experiment: every norm, batch and seed on the same examples."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.lab.options import Size
from experiments.training import Config
from experiments.training.config import epoch_examples

# Where steps are few.
ADAM: dict[str, Any] = {"optimizer": "adam", "warmup": 0.1}


def configs(
    norms: Sequence[str],
    size: Size,
    rates: Mapping[str, float],
    *,
    devices: int,
    available: int,
    **settings: Any,
) -> list[Config]:
    """A `grid` whose epochs hold as many examples as every batch divides.

    Args:
      norms: as for `grid`.
      size: likewise.
      rates: likewise.
      devices: that share a step.
      available: training examples.
      **settings: as for `grid`.

    Raises:
      ValueError: there are fewer examples than the largest batch takes.
    """
    taken = epoch_examples(
        min(available, size.examples or available),
        [batch * devices for batch in size.batches],
    )
    return grid(norms, size, rates, devices=devices, epoch_examples=taken, **settings)


def grid(
    norms: Sequence[str],
    size: Size,
    rates: Mapping[str, float],
    *,
    networks: Sequence[str] = ("",),
    **settings: Any,
) -> list[Config]:
    """One config per network, norm, batch and seed.

    Args:
      norms: by name.
      size: epochs, batches, seeds.
      rates: peak learning rate of each norm, for 256 examples.
      networks: by name, where runs differ in it.
      **settings: other fields of the configs.

    Raises:
      ValueError: a batch does not divide the examples of an epoch.
    """
    return [
        Config(
            norm=norm,
            batch=batch,
            seed=seed,
            epochs=size.epochs,
            rate=rates[norm],
            network=network,
            **settings,
        )
        for network in networks
        for norm in norms
        for batch in size.batches
        for seed in range(size.seeds)
    ]
