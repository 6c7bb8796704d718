"""Makes the subset of Fashion-MNIST that ships with the package.

    apt-get download dataset-fashion-mnist
    dpkg -x dataset-fashion-mnist_*.deb unpacked
    python -m experiments.data.make_subset \
        --source unpacked/usr/share/datasets/fashion-mnist

Any folder with the four IDX files will do. Of each class, the first images in the
order of the full set are kept, in that order. Nothing is drawn at random and the
archive bears no dates, so the same source gives the same bytes (under another build of
zlib, the same arrays).
"""

import argparse
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.data import fashion_mnist, files, subset

TRAIN_PER_CLASS = 1000
TEST_PER_CLASS = 200


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.data.make_subset",
        description="Makes the subset of Fashion-MNIST that ships with the package.",
    )
    parser.add_argument(
        "--source",
        type=pathlib.Path,
        required=True,
        metavar="FOLDER",
        help="holds the four IDX files of Fashion-MNIST, plain or gzip",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / subset.FILE
    )
    args = parser.parse_args(argv)
    try:
        make(args.source, args.out)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    digest = hashlib.sha256(args.out.read_bytes()).hexdigest()
    print(f"{args.out}: {args.out.stat().st_size} bytes, SHA-256 {digest}")


def make(
    folder: pathlib.Path,
    out: pathlib.Path,
    *,
    train_per_class: int = TRAIN_PER_CLASS,
    test_per_class: int = TEST_PER_CLASS,
    source: Sequence[files.File] = fashion_mnist.FILES,
) -> None:
    """Writes to ``out`` the subset of the full set in ``folder``.

    Raises:
      FileNotFoundError, ValueError: as `fashion_mnist.read` and `first` do.
    """
    train, test = fashion_mnist.read(folder, source=source)
    train_images, train_labels = first(*train, train_per_class)
    test_images, test_labels = first(*test, test_per_class)
    np.savez_compressed(
        out,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )


def first(
    images: np.ndarray, labels: np.ndarray, per_class: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first ``per_class`` images of each label, in their order, and their labels.

    Raises:
      ValueError: some label has fewer images.

    Example:
      >>> first(np.arange(6), np.array([1, 1, 0, 1, 0, 0]), 2)
      (array([0, 1, 2, 4]), array([1, 1, 0, 0]))
    """
    keep = []
    for label in np.unique(labels):
        found = np.flatnonzero(labels == label)[:per_class]
        if len(found) < per_class:
            raise ValueError(
                f"expected {per_class} images of class {label} or more, got "
                f"{len(found)}; take fewer of each class"
            )
        keep.append(found)
    chosen = np.sort(np.concatenate(keep))
    return images[chosen], labels[chosen]


if __name__ == "__main__":
    main()
