"""The recipe: tissues of a brain, or organs and tumours of the Decathlon.

Unlike the paper's Mask R-CNN: nothing is trained before on anything else, so that there
are no statistics to freeze batch norm with, and batch norm is as it comes; and Adam
takes the steps, since they are few.
"""

from experiments.data import brain, decathlon
from experiments.lab import Size, plan
from experiments.segmentation.organs import ORGANS
from experiments.segmentation.sets import Set
from experiments.segmentation.template import TEMPLATE
from experiments.training import Config

NORMS = ("bn", "gn")
DEVICES = 1
SETS = {brain.NAME: TEMPLATE, decathlon.NAME: ORGANS}


def configs(of: Set, norms: tuple[str, ...], size: Size) -> list[Config]:
    """One config per dimension, norm, batch and seed.

    Raises:
      ValueError: a batch does not divide the patches of an epoch.
    """
    return plan.grid(
        norms,
        size,
        dict.fromkeys(norms, of.rate),
        networks=tuple(of.geometries),
        devices=DEVICES,
        epoch_examples=min(of.epoch, size.examples or of.epoch),
        evaluation_batch=of.evaluation_batch,
        **plan.ADAM,
    )
