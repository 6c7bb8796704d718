"""The runs of an experiment: every norm, batch and seed on the same examples."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.lab.options import Size
from experiments.training import Config
from experiments.training.config import epoch_examples


def configs(
    norms: Sequence[str],
    size: Size,
    rates: Mapping[str, float],
    *,
    devices: int,
    available: int,
    networks: Sequence[str] = ("",),
    **settings: Any,
) -> list[Config]:
    """One config per network, norm, batch and seed; all see the same examples.

    Args:
      norms: by name.
      size: epochs, batches, seeds.
      rates: peak learning rate of each norm, for 256 examples.
      devices: that share a step.
      available: training examples.
      networks: by name, where runs differ in it.
      **settings: other fields of the configs.

    Raises:
      ValueError: there are fewer examples than the largest batch takes.
    """
    taken = epoch_examples(
        min(available, size.examples or available),
        [batch * devices for batch in size.batches],
    )
    return [
        Config(
            norm=norm,
            batch=batch,
            devices=devices,
            seed=seed,
            epochs=size.epochs,
            epoch_examples=taken,
            rate=rates[norm],
            network=network,
            **settings,
        )
        for network in networks
        for norm in norms
        for batch in size.batches
        for seed in range(size.seeds)
    ]
