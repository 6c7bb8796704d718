"""The recipe: which way things move, or what people in films do.

The paper takes Kinetics, 240,000 films of human actions, and no set of labelled films
installs from a registry: the committed record is of clips that are made, `moving`.
With a folder of films it is Kinetics or UCF101, `filmed`.
"""

from experiments.data import kinetics, ucf101
from experiments.lab import Size, plan
from experiments.training import Config
from experiments.video import moving
from experiments.video.filmed import KINETICS, UCF101
from experiments.video.sets import Set, Source

NORMS = ("bn", "gn")
DEVICES = 1
SETS = {moving.NAME: moving.MOVING, kinetics.NAME: KINETICS, ucf101.NAME: UCF101}


def configs(
    of: Set, source: Source, norms: tuple[str, ...], size: Size
) -> list[Config]:
    """One config per norm, batch and seed.

    Raises:
      ValueError: there are fewer clips than the largest batch takes.
    """
    return plan.configs(
        norms,
        size,
        dict.fromkeys(norms, of.rate),
        devices=DEVICES,
        available=source.available,
        augment=False,
        evaluation_batch=of.evaluation_batch,
        **plan.ADAM,
    )
