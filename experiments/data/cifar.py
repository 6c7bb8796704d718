"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test photographs each, 32x32x3.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. Their page,
https://www.cs.toronto.edu/~kriz/cifar.html, states no licence and asks for the report
to be cited; so the user fetches the files, and the package ships none. Of the three
forms offered there this reads the binary one: the Python form is a pickle, which can
run any code.
"""

import dataclasses
import io
import os
import tarfile

import numpy as np

from experiments.data import files
from experiments.data.dataset import Dataset

_SIDE, _CHANNELS = 32, 3
_PIXELS = _CHANNELS * _SIDE * _SIDE


@dataclasses.dataclass(frozen=True)
class Archive:
    """One of the sets, in the authors' binary form.

    Attributes:
      name: the name that `experiments.data.load` knows it by.
      file: the tar file.
      train: its members with training records, in order.
      test: its member with test records.
      class_names: its member with a class name in each line.
      label_bytes: at the head of a record; the last one is the label, and the other one
        in CIFAR-100 is the superclass.
    """

    name: str
    file: files.File
    train: tuple[str, ...]
    test: str
    class_names: str
    label_bytes: int


# The page gives MD5 c32a1d4ab5d03f1284b67883e8d87530 for the first archive and
# 03b5dce01913d631647c71ecec9e9cb8 for the second. The SHA-256 are those by which
# TensorFlow Datasets (url_checksums/) knows the same addresses.
CIFAR10 = Archive(
    "cifar10",
    files.File(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
    train=tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
    test="cifar-10-batches-bin/test_batch.bin",
    class_names="cifar-10-batches-bin/batches.meta.txt",
    label_bytes=1,
)
CIFAR100 = Archive(
    "cifar100",
    files.File(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    ),
    train=("cifar-100-binary/train.bin",),
    test="cifar-100-binary/test.bin",
    class_names="cifar-100-binary/fine_label_names.txt",
    label_bytes=2,
)


def load(
    archive: Archive,
    folder: str | os.PathLike | None = None,
    *,
    download: bool = False,
) -> Dataset:
    """50,000 training and 10,000 test images of 32x32x3.

    Args:
      archive: `CIFAR10` or `CIFAR100`.
      folder: holds the tar file as it is published. By default the user's cache.
      download: whether to fetch it if it is missing.

    Raises:
      FileNotFoundError: the file is missing, and ``download`` is false.
      ValueError: the file is damaged or another one.
      ConnectionError: the download failed.
    """
    [path] = files.locate(archive.name, [archive.file], folder, download=download)
    content = archive.file.read(path)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            train = [_member(tar, name) for name in archive.train]
            test = _member(tar, archive.test)
            class_names = _member(tar, archive.class_names).decode().split()
    except (KeyError, tarfile.TarError) as error:
        raise ValueError(
            f"{path}: expected the members of {archive.file.url}, got another archive "
            f"({error})"
        ) from error
    return Dataset.of(
        archive.name,
        parse(b"".join(train), archive.label_bytes, f"{path}: {archive.train[0]}"),
        parse(test, archive.label_bytes, f"{path}: {archive.test}"),
        tuple(class_names),
    )


def parse(content: bytes, label_bytes: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels in the bytes of a binary file.

    A record is ``label_bytes`` bytes, of which the last is the label, and then the red,
    the green and the blue plane of the image, each in row-major order.

    Returns:
      uint8 images of shape (N, 32, 32, 3) and uint8 labels of shape (N,).

    Raises:
      ValueError: not a whole number of records, or none; called ``name``.
    """
    record = label_bytes + _PIXELS
    if not content or len(content) % record:
        raise ValueError(
            f"{name}: expected records of {record} bytes, got {len(content)} bytes; it "
            "is cut off or of the other CIFAR set"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    planes = records[:, label_bytes:].reshape(-1, _CHANNELS, _SIDE, _SIDE)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return images, records[:, label_bytes - 1].copy()


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    if member is None:
        raise KeyError(f"{name} is not a file")
    return member.read()
