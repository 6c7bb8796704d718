"""The experiments by name. Each folder has a module ``experiment`` with EXPERIMENT."""

import importlib

from experiments.lab.experiment import Experiment

# In the order of the page: first where batch norm's fall is plainest.
NAMES = (
    "small_batch",
    "video",
    "segmentation",
    "norms",
    "groups",
    "depth",
    "detection",
    "finetune",
    "analysis",
)


def load(name: str) -> Experiment:
    """The experiment called ``name``.

    Raises:
      ValueError: there is none.
    """
    if name not in NAMES:
        raise ValueError(f"expected an experiment of {', '.join(NAMES)}; got {name!r}")
    return importlib.import_module(f"experiments.{name}.experiment").EXPERIMENT
