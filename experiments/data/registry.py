"""The datasets by name."""

import functools
import os
from collections.abc import Callable

from experiments.data import (
    brain,
    cifar,
    coco,
    decathlon,
    fashion_mnist,
    kinetics,
    subset,
    trees,
    ucf101,
)
from experiments.data.dataset import Dataset

_LOADERS: dict[str, Callable[..., Dataset]] = {
    subset.NAME: subset.load,
    fashion_mnist.NAME: fashion_mnist.load,
    cifar.CIFAR10.name: functools.partial(cifar.load, cifar.CIFAR10),
    cifar.CIFAR100.name: functools.partial(cifar.load, cifar.CIFAR100),
}
NAMES = tuple(_LOADERS)
# Modules of sets for other tasks than classification. What `load` returns is their own,
# and `summary` says in lines what is in it.
OTHERS = {
    module.NAME: module for module in (trees, coco, brain, decathlon, kinetics, ucf101)
}


def load(
    name: str, folder: str | os.PathLike | None = None, *, download: bool = False
) -> Dataset:
    """The dataset called ``name``.

    Args:
      name: one of `NAMES`. The first ships with the package; the others are looked for.
      folder: holds the files of the set as they are published. By default
        ``flax_gn/NAME`` in the user's cache (``$XDG_CACHE_HOME``, else ``~/.cache``)
        and, for Fashion-MNIST, the folder that Debian's package installs.
      download: whether to fetch missing files from the authors' home, into ``folder``
        or else the cache. Every file is checked by its SHA-256 whenever it is read.

    Raises:
      ValueError: an unknown name, a folder for the set that ships with the package, or
        a file that is damaged or another one.
      FileNotFoundError: a file is missing, and ``download`` is false.
      ConnectionError: a download failed.

    Example:
      >>> dataset = load("fashion-mnist-subset")
      >>> dataset.train_images.shape, dataset.classes[dataset.train_labels[0]]
      ((10000, 28, 28, 1), 'Ankle boot')
    """
    if name not in _LOADERS:
        raise ValueError(f"expected a dataset of {', '.join(NAMES)}, got {name!r}")
    return _LOADERS[name](folder, download=download)
