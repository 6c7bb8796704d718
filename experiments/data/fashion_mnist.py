"""Fashion-MNIST (H. Xiao, K. Rasul and R. Vollgraf, arXiv 1708.07747, 2017).

60,000 training and 10,000 test pictures of articles by Zalando, 28x28 and grey, in 10
balanced classes. MIT licence, https://github.com/zalandoresearch/fashion-mnist.
"""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.data import files, idx
from experiments.data.dataset import Dataset

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

# The links of the authors' README. The checksums are of the bytes inside the gzip
# files, so that they hold for the authors' files, whose MD5s the README gives, and for
# Debian's alike, which lack the name and the date in the gzip header.
_HOME = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
FILES = (
    files.File(
        f"{_HOME}/train-images-idx3-ubyte.gz",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        gzipped=True,
    ),
    files.File(
        f"{_HOME}/train-labels-idx1-ubyte.gz",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        gzipped=True,
    ),
    files.File(
        f"{_HOME}/t10k-images-idx3-ubyte.gz",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        gzipped=True,
    ),
    files.File(
        f"{_HOME}/t10k-labels-idx1-ubyte.gz",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        gzipped=True,
    ),
)
DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")


def load(
    folder: str | os.PathLike | None = None,
    *,
    download: bool = False,
    source: Sequence[files.File] = FILES,
) -> Dataset:
    """60,000 training and 10,000 test images of 28x28x1.

    Args:
      folder: holds the four IDX files, plain or gzip. By default the user's cache, then
        the folder of the Debian package ``dataset-fashion-mnist``.
      download: whether to fetch missing files.
      source: the files of the training images and labels, then of the test images and
        labels.

    Raises:
      FileNotFoundError: a file is missing, and ``download`` is false.
      ValueError: a file is damaged or another one.
      ConnectionError: a download failed.
    """
    train, test = read(folder, download=download, source=source)
    return Dataset.of(NAME, train, test, CLASSES)


def read(
    folder: str | os.PathLike | None = None,
    *,
    download: bool = False,
    source: Sequence[files.File] = FILES,
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """As `load`, but only the training and the test images and labels, as stored."""
    paths = files.locate(NAME, source, folder, elsewhere=(DEBIAN,), download=download)
    train_images, train_labels, test_images, test_labels = (
        idx.parse(file.read(path), str(path))
        for file, path in zip(source, paths, strict=True)
    )
    return (train_images, train_labels), (test_images, test_labels)
