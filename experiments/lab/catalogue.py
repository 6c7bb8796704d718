"""The experiments by name. Each folder has a module ``experiment`` with EXPERIMENT."""

import importlib

from experiments.lab.experiment import Experiment

# In the order of the paper, and of the page.
NAMES = (
    "small_batch",
    "norms",
    "groups",
    "depth",
    "segmentation",
    "detection",
    "video",
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
