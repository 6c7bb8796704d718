"""Parquet files as Hugging Face writes them: a column of images, a column of labels.

A row can only be read with its row group, commonly 100 images. Reading in random order,
as training does, reads each group about as often as it has rows; groups that are read
often are kept. For ImageNet, unpack the images into folders instead.
"""

import functools
import json
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.imagenet.data.source import BadExampleError, Example

_IMAGES, _LABELS = ("image", "img"), ("label", "fine_label", "labels")
_KEPT = 64  # row groups


class Parquet:
    """The rows of Parquet files, one file after another.

    Args:
      paths: the files.

    Raises:
      ModuleNotFoundError: pyarrow is not installed.
      ValueError: a file is no Parquet file, or has no such columns.
    """

    def __init__(self, paths: Sequence[pathlib.Path]):
        self.name = str(paths[0].parent)
        self._paths = [str(path) for path in paths]
        starts, groups = [0], []
        for number, path in enumerate(paths):
            file = _open(str(path))
            for group in range(file.num_row_groups):
                starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
                groups.append((number, group))
        self._starts, self._groups = np.array(starts), groups
        self._columns = _columns(_open(self._paths[0]), self._paths[0])
        self.classes = _classes(_open(self._paths[0]), self._paths[0], self._columns[1])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Example:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        file, group = self._groups[number]
        row = index - int(self._starts[number])
        name = f"{self._paths[file]}, row group {group}, row {row}"
        try:
            images, labels = _read(self._paths[file], group, self._columns)
        except (OSError, ValueError) as error:
            raise BadExampleError(name, str(error)) from error
        image = images[row].as_py()
        if not isinstance(image, dict) or not isinstance(image.get("bytes"), bytes):
            raise BadExampleError(name, "expected the bytes of an image, got none")
        return Example(image["bytes"], labels[row].as_py(), name)


def _open(path: str) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Parquet files need pyarrow, which is not installed; run: "
            "pip install -e . --group parquet"
        ) from error
    try:
        return pq.ParquetFile(path, memory_map=True)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{path}: it is no Parquet file, or cut short ({error}); fetch it again"
        ) from error


_LOCK = threading.Lock()  # a file is read by one thread at a time


def _read(path: str, group: int, columns: tuple[str, str]) -> tuple[Any, Any]:
    with _LOCK:
        return _read_group(path, group, columns)


@functools.lru_cache(_KEPT)
def _read_group(path: str, group: int, columns: tuple[str, str]) -> tuple[Any, Any]:
    table = _open(path).read_row_group(group, columns=list(columns))
    return tuple(table.column(name).combine_chunks() for name in columns)


def _columns(file: Any, path: str) -> tuple[str, str]:
    names = file.schema_arrow.names
    image = next((name for name in _IMAGES if name in names), None)
    label = next((name for name in _LABELS if name in names), None)
    if image is None or label is None:
        raise ValueError(
            f"{path}: expected a column {' or '.join(_IMAGES)} and a column "
            f"{' or '.join(_LABELS)}, got {', '.join(names)}"
        )
    return image, label


def _classes(file: Any, path: str, label: str) -> int:
    """By the description that Hugging Face puts into the file."""
    metadata = file.schema_arrow.metadata or {}
    told = json.loads(metadata.get(b"huggingface", b"{}"))
    names = told.get("info", {}).get("features", {}).get(label, {}).get("names")
    if not names:
        raise ValueError(
            f"{path}: expected the names of the classes of column {label} in the "
            "file's metadata, as the datasets library writes them"
        )
    return len(names)
