"""What is measured: data of unit deviation, over means, sizes of group and outliers."""

import dataclasses
import math
from collections.abc import Iterator

import ml_dtypes  # noqa: F401  Gives numpy its bfloat16.
import numpy as np

DTYPES = ("float32", "bfloat16", "float16")
MEANS = (0.0, 1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6)
SIZES = (2, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
OUTLIERS = ("first value", "first row")
LARGE_MEAN = 1e3
"""The mean, in deviations, at which groups of all sizes are compared."""

_SHAPE, _GROUPS = (2, 32, 32, 16), 2  # groups of 8 channels at 32x32 positions
_LARGEST = {"float16": 65504.0}


@dataclasses.dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
      dtype: of x.
      shape: (N, H, W, C).
      groups: G.
      mean: added to standard normal values before they are rounded to ``dtype``.
      outlier: None; "first value", a 0 as the first value of each group; "first row",
        the first row of each image is 0.
      gradients: whether the errors of gradients are wanted too.
    """

    dtype: str
    shape: tuple[int, ...]
    groups: int
    mean: float
    outlier: str | None = None
    gradients: bool = False

    @property
    def values(self) -> int:
        """Values in a group."""
        return math.prod(self.shape[1:]) // self.groups

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """x, and the cotangent dy where gradients are wanted."""
        rng = np.random.default_rng([self.values, 2018])
        dtype = np.dtype(self.dtype)
        x = rng.standard_normal(self.shape, np.float32)
        x = (x.astype(np.float64) + self.mean).astype(dtype)
        if self.outlier == "first value":
            x[:, 0, 0, :: self.shape[-1] // self.groups] = 0
        if self.outlier == "first row":
            x[:, 0] = 0
        if not self.gradients:
            return x, None
        return x, rng.standard_normal(self.shape, np.float32).astype(dtype)


def by_mean(dtypes=DTYPES, means=MEANS, outliers=OUTLIERS) -> Iterator[Case]:
    """Groups of 8192 values; float16 as far as it can represent the values."""
    for dtype in dtypes:
        for outlier in (None, *outliers) if dtype == "float32" else (None,):
            for mean in means:
                if mean < _LARGEST.get(dtype, math.inf):
                    yield Case(dtype, _SHAPE, _GROUPS, mean, outlier, gradients=True)


def by_size(dtypes=DTYPES, sizes=SIZES) -> Iterator[Case]:
    """Groups of two channels and as many positions as the size asks for."""
    for dtype in dtypes:
        for size in sizes:
            shape, groups = _of_size(size)
            for mean in (0.0, LARGE_MEAN) if dtype == "float32" else (0.0,):
                yield Case(dtype, shape, groups, mean)


def _of_size(values: int) -> tuple[tuple[int, ...], int]:
    """Shape and groups, with fewer samples and groups where these are large."""
    samples, groups = (16, 4) if values <= 1_000 else (2, 2) if values < 1e6 else (1, 1)
    positions = values // 2
    height = max(d for d in range(1, math.isqrt(positions) + 1) if positions % d == 0)
    return (samples, height, positions // height, 2 * groups), groups
