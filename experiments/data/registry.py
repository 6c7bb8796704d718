"""The datasets by name."""

from experiments.data import subset
from experiments.data.dataset import Dataset

_LOADERS = {subset.NAME: subset.load}
NAMES = tuple(_LOADERS)


def load(name: str) -> Dataset:
    """The dataset called ``name``, one of `NAMES`."""
    return _LOADERS[name]()
