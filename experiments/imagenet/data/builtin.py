"""Data that needs no files: made up, or shipped with the package."""

import functools

import numpy as np

from experiments import data
from experiments.imagenet.data.source import Example


class Synthetic:
    """Noise, brighter in one of 10 columns: the label. The same for every host and run.

    Args:
      split: "train" or "validation".
      size: height and width.
      examples: how many.
    """

    classes = 10

    def __init__(self, split: str, size: int, examples: int):
        self.name = f"synthetic {split}"
        self._seed = 0 if split == "train" else 1
        self._size, self._examples = size, examples

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng((self._seed, index))
        label = int(rng.integers(self.classes))
        image = rng.integers(0, 156, (self._size, self._size, 3), np.uint8)
        edges = np.linspace(0, self._size, self.classes + 1).astype(int)
        image[:, edges[label] : edges[label + 1]] += 100
        return Example(image, label, f"{self.name} {index}")


class Embedded:
    """The subset of Fashion-MNIST that ships with the package."""

    def __init__(self, split: str):
        self.name = f"fashion-mnist-subset {split}"
        self._split = split
        self.classes = len(_subset().classes)

    def __len__(self) -> int:
        return len(self._arrays()[1])

    def __getitem__(self, index: int) -> Example:
        images, labels = self._arrays()
        return Example(images[index], int(labels[index]), f"{self.name} {index}")

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        subset = _subset()
        if self._split == "train":
            return subset.train_images, subset.train_labels
        return subset.test_images, subset.test_labels


@functools.cache
def _subset() -> data.Dataset:
    return data.load("fashion-mnist-subset")
