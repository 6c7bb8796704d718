"""Fashion-MNIST (H. Xiao, K. Rasul and R. Vollgraf, arXiv 1708.07747, 2017).

60,000 training and 10,000 test pictures of articles by Zalando, 28x28 and grey, in 10
balanced classes. MIT licence, https://github.com/zalandoresearch/fashion-mnist.
"""

import pathlib

import numpy as np

from experiments.data import idx

NAME = "fashion-mnist"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_PARTS = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)


def read(folder: pathlib.Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of the training and the test part, from IDX files."""
    pairs = []
    for part in _PARTS:
        arrays = []
        for name in part:
            path = idx.find(folder, name)
            if path is None:
                raise FileNotFoundError(
                    f"expected {name} or {name}.gz in {folder}, got neither"
                )
            arrays.append(idx.parse(idx.uncompressed(path), str(path)))
        pairs.append(tuple(arrays))
    return pairs
