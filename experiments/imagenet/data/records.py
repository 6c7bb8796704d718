"""ArrayRecord and TFRecord files of `tf.train.Example`, as TFDS writes them."""

import json
import pathlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np

from experiments.imagenet.data import tf_example
from experiments.imagenet.data.source import BadExampleError, Example

# TFRecord frames each record: its length, a checksum of that, the record, a checksum.
_HEAD, _TAIL = 12, 4


class ArrayRecords:
    """The records of ArrayRecord files, one file after another.

    Args:
      paths: the files.
      classes: how many labels there are.

    Raises:
      ValueError: a file is no ArrayRecord file, or cut short.
    """

    def __init__(self, paths: Sequence[pathlib.Path], classes: int):
        self.name, self.classes = str(paths[0].parent), classes
        self._paths = [str(path) for path in paths]
        self._files = []
        for path in paths:
            try:
                file: Any = grain.sources.ArrayRecordDataSource(str(path))
                len(file)
            # What it raises where a file is damaged is up to its C++ part.
            except Exception as error:
                raise ValueError(
                    f"{path}: it is no ArrayRecord file, or cut short ({error}); make "
                    "or fetch it again"
                ) from error
            self._files.append(file)
        self._ends = np.cumsum([len(file) for file in self._files])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        file, place = _place(self._ends, index)
        name = f"{self._paths[file]}, record {place}"
        try:
            record = self._files[file][place]
        except Exception as error:  # as above
            raise BadExampleError(name, f"it cannot be read ({error})") from error
        return example(record, name)


class TfRecords:
    """The records of TFRecord files, whose places are looked up once, at the start.

    Args, Raises: as `ArrayRecords`.
    """

    def __init__(self, paths: Sequence[pathlib.Path], classes: int):
        self.name, self.classes = str(paths[0].parent), classes
        self._paths = [str(path) for path in paths]
        self._places = [np.array(list(_frames(path)), np.int64) for path in paths]
        self._ends = np.cumsum([len(places) for places in self._places])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        file, place = _place(self._ends, index)
        start, length = (int(value) for value in self._places[file][place])
        name = f"{self._paths[file]}, record {place}"
        try:
            with pathlib.Path(self._paths[file]).open("rb") as opened:
                opened.seek(start)
                record = opened.read(length)
        except OSError as error:
            raise BadExampleError(name, error.strerror or str(error)) from error
        return example(record, name)


def example(record: bytes, name: str) -> Example:
    """An example of TFDS's image classification sets: "image" and "label".

    Raises:
      BadExampleError: it is something else.
    """
    try:
        values = tf_example.parse(record)
    except ValueError as error:
        raise BadExampleError(name, str(error)) from error
    if not {"image", "label"} <= values.keys():
        raise BadExampleError(
            name, f"expected values named image and label, got {sorted(values)}"
        )
    return Example(values["image"][0], values["label"][0], name)


def classes(folder: pathlib.Path) -> int:
    """How many labels a set has, by the description that TFDS puts beside it.

    Raises:
      ValueError: there is none.
    """
    names = folder / "label.labels.txt"
    if names.is_file():
        return len(names.read_text().split())
    features = folder / "features.json"
    if features.is_file():
        found = list(_find(json.loads(features.read_text()), "numClasses"))
        if len(found) == 1:
            return int(found[0])
    raise ValueError(
        f"{folder}: expected a file label.labels.txt with a line for each class, or "
        "the features.json that TFDS writes, to know how many classes there are"
    )


def _place(ends: np.ndarray, index: int) -> tuple[int, int]:
    """The file that holds a record, and its number there."""
    file = int(np.searchsorted(ends, index, side="right"))
    return file, index - int(ends[file - 1] if file else 0)


def _frames(path: pathlib.Path) -> Iterator[tuple[int, int]]:
    """Where each record of a TFRecord file starts, and its length."""
    size, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while start < size:
            file.seek(start)
            head = file.read(_HEAD)
            length = struct.unpack("<Q", head[:8])[0] if len(head) == _HEAD else size
            end = start + _HEAD + length + _TAIL
            if end > size:
                raise ValueError(
                    f"{path}: it is no TFRecord file, or cut short: the record at byte "
                    f"{start} would end beyond the {size} bytes there are; make or "
                    "fetch it again"
                )
            yield start + _HEAD, length
            start = end


def _find(tree: object, name: str) -> Iterator[str]:
    """All values of that name in what JSON held."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == name:
                yield value
            yield from _find(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from _find(value, name)
