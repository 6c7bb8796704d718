"""Image classification sets for the experiments; `load` reads them by name."""

from experiments.data.dataset import Dataset
from experiments.data.registry import NAMES, load

__all__ = ["NAMES", "Dataset", "load"]
