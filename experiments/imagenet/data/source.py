"""What every kind of data offers: examples by number, with a name for errors."""

from typing import NamedTuple, Protocol

import numpy as np


class Example(NamedTuple):
    """One example as stored.

    Attributes:
      image: the bytes of a JPEG or PNG file, or uint8 of shape (H, W, C), C = 1 or 3.
      label: from 0.
      name: the file it came from, and the place in it.
    """

    image: bytes | np.ndarray
    label: int
    name: str


class BadExampleError(Exception):
    """An example that cannot be read; says in which file, and why."""

    def __init__(self, name: str, why: str):
        # Both are arguments, so that the error can cross processes.
        super().__init__(name, why)

    def __str__(self) -> str:
        name, why = self.args
        return f"{name}: {why}"


class Source(Protocol):
    """Examples by number. Any thread or process may read any of them at any time."""

    classes: int
    name: str

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Example:
        """Raises `BadExampleError` where there is nothing that can be read."""
        ...
