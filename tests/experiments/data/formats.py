"""Small files in the published formats, written independently of the loaders."""

import gzip
import hashlib
import io
import pathlib
import tarfile

import numpy as np

from experiments.data import cifar, fashion_mnist, files

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx(array: np.ndarray) -> bytes:
    header = b"\x00\x00\x08" + bytes([array.ndim])
    for length in array.shape:
        header += length.to_bytes(4, "big")
    return header + array.astype(np.uint8).tobytes()


def fashion(train: int = 30, test: int = 20, seed: int = 0) -> list[np.ndarray]:
    """Training images and labels, test images and labels: every class in turn."""
    rng = np.random.default_rng(seed)
    arrays = []
    for n in (train, test):
        arrays.append(rng.integers(0, 256, (n, 28, 28), np.uint8))
        arrays.append(rng.permutation(np.arange(n, dtype=np.uint8) % 10))
    return arrays


def write_fashion(
    folder: pathlib.Path, arrays: list[np.ndarray], *, compressed: bool = True
) -> tuple[files.File, ...]:
    """Writes the four files and returns them with their checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    described = []
    for name, array, file in zip(IDX_NAMES, arrays, fashion_mnist.FILES, strict=True):
        content = idx(array)
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
        described.append(files.File(file.url, sha256(content), gzipped=True))
    return tuple(described)


def cifar_records(labels: np.ndarray, images: np.ndarray) -> bytes:
    """labels: (N, label bytes); images: (N, 32, 32, 3)."""
    content = b""
    for label, image in zip(labels, images, strict=True):
        planes = [image[:, :, c].tobytes() for c in range(3)]
        content += label.astype(np.uint8).tobytes() + b"".join(planes)
    return content


def tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def cifar_members(archive: cifar.Archive, classes: int, per_member: int = 3):
    """The members of a small archive, and the arrays that they hold."""
    rng = np.random.default_rng(1)
    members, images, labels = {}, [], []
    for name in (*archive.train, archive.test):
        labels.append(rng.integers(0, classes, (per_member, archive.label_bytes)))
        images.append(rng.integers(0, 256, (per_member, 32, 32, 3), np.uint8))
        members[name] = cifar_records(labels[-1], images[-1])
    names = "".join(f"class_{i}\n" for i in range(classes))
    members[archive.class_names] = names.encode() + b"\n"  # the real one ends so, too
    return members, images, labels


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
