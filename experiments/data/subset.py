"""The subset of Fashion-MNIST that ships with the package.

The first 1,000 training and the first 200 test images of each class, in the order of
the full set (H. Xiao, K. Rasul and R. Vollgraf, arXiv 1708.07747, 2017). The pictures
are Zalando SE's, under the MIT licence in ``fashion_mnist_subset.LICENSE.txt``; the
file was made by `make_subset`.
"""

import importlib.resources
import os

import numpy as np

from experiments.data.dataset import Dataset
from experiments.data.fashion_mnist import CLASSES
from experiments.data.fashion_mnist import NAME as FULL_NAME

NAME = "fashion-mnist-subset"
FILE = "fashion_mnist_subset.npz"


def load(folder: str | os.PathLike | None = None, *, download: bool = False) -> Dataset:
    """10,000 training and 2,000 test images of 28x28x1, balanced over 10 classes.

    Args:
      folder: must be None, since the file lies in the package.
      download: has no effect, since there is nothing to fetch.

    Raises:
      ValueError: ``folder`` is given.

    Example:
      >>> dataset = load()
      >>> dataset.train_images.shape, dataset.test_images.shape
      ((10000, 28, 28, 1), (2000, 28, 28, 1))
    """
    del download
    if folder is not None:
        raise ValueError(
            f"{NAME}: expected no folder, since it ships with the package; got "
            f"{folder}; leave the folder out, or load {FULL_NAME} from it"
        )
    resource = importlib.resources.files("experiments.data").joinpath(FILE)
    with resource.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        train = arrays["train_images"], arrays["train_labels"]
        test = arrays["test_images"], arrays["test_labels"]
    return Dataset.of(NAME, train, test, CLASSES)
