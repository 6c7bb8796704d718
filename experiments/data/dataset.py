"""What every loader returns: images and labels as stored, and their statistics."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled set of images, in memory.

    Attributes:
      name: the name that `load` knows it by.
      train_images: uint8, (N, H, W, C), as stored: neither scaled nor shuffled.
      train_labels: int32, (N,), from 0 to ``len(classes) - 1``.
      test_images: uint8, (M, H, W, C).
      test_labels: int32, (M,).
      classes: the name of each label.
      mean: float32, (C,), of the training images scaled to [0, 1].
      std: float32, (C,), likewise; the population's, not a sample's.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(
        cls,
        name: str,
        train: tuple[np.ndarray, np.ndarray],
        test: tuple[np.ndarray, np.ndarray],
        classes: tuple[str, ...],
    ) -> "Dataset":
        """Checks the pairs of images and labels and measures the training images.

        Grey images may lack their channel axis, and labels may be of any integer type.

        Raises:
          ValueError: images that are not uint8 of rank 3 or 4, test images of another
            size than the training images, another number of labels than of images, or a
            label without a class.
        """
        train_images, train_labels = _checked(name, "training", *train, len(classes))
        test_images, test_labels = _checked(name, "test", *test, len(classes))
        if train_images.shape[1:] != test_images.shape[1:]:
            raise ValueError(
                f"{name}: expected test images of the training images' shape "
                f"{train_images.shape[1:]}, got {test_images.shape[1:]}; the files are "
                "of different sets"
            )
        mean, std = _mean_and_std(train_images)
        return cls(
            name,
            train_images,
            train_labels,
            test_images,
            test_labels,
            classes,
            mean,
            std,
        )


def _checked(
    name: str, part: str, images: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise ValueError(
            f"{name}: expected {part} images of dtype uint8 and shape (N, H, W) or "
            f"(N, H, W, C), none of them 0; got {images.dtype}{list(images.shape)}; "
            "are images and labels mixed up?"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{name}: expected one integer label for each of the {len(images)} {part} "
            f"images, got {labels.dtype}{list(labels.shape)}; are the files of one set?"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"{name}: expected {part} labels from 0 to {classes - 1}, got "
            f"{labels.min()} to {labels.max()}; are the files of another set?"
        )
    if images.ndim == 3:
        images = images[..., None]
    return images, labels.astype(np.int32)


def _mean_and_std(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per channel, in [0, 1], from counts of the 256 values: exact, no float copy."""
    channels = images.shape[-1]
    counts = np.stack(
        [np.bincount(images[..., c].ravel(), minlength=256) for c in range(channels)]
    )
    values = np.arange(256) / 255
    pixels = counts.sum(axis=1)
    mean = counts @ values / pixels
    variance = (counts * np.square(values - mean[:, None])).sum(axis=1) / pixels
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
