"""What a program may cost: the bars, and no more than the record has.

The bars are of bytes over those of x. Forward has to read x, read it again and write y;
backward has to read x and dy, read them again and write dx: 3|x| and 5|x|. Where they
stay on the chip they are read once: 2|x| and 3|x|.
"""

import dataclasses
import functools
import importlib.metadata
import math

from experiments.benchmark import compiled, targets

COMPILERS = {"cuda": "jax-cuda13-plugin", "tpu": "libtpu"}

LEAST = {"forward": 2, "backward": 3}
NEEDED = {"forward": 3, "backward": 5}
GPU_KERNELS = {"forward": 5, "backward": 8}
GPU_MOVED = {"forward": 3.1, "backward": 5.2}
PARAMETERS = {"forward": 4, "backward": 12}
# Of 112 rows, the three that the pilot is taken from are 2.7% of x; what there is per
# sample and group comes on top.
TPU_SLACK = 0.04
# v5p keeps in main memory what other generations keep on the chip: arrays of a number
# per sample, group and channel of the group, padded to tiles. So many of them.
V5P_MOVED = {"forward": 15, "backward": 26}
V5P_SCRATCH = 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most of each number; see `compiled.Row`."""

    kernels: float
    moved: float
    largest: float
    scratch: float

    def exceeded(self, row: compiled.Row) -> list[str]:
        """What is too much, in words."""
        return [
            f"{name} is {getattr(row, name)}, more than {getattr(self, name):.0f}"
            for name in ("kernels", "moved", "largest", "scratch")
            if getattr(row, name) > getattr(self, name)
        ]


def bars(row: compiled.Row, layer) -> Limits:
    """The limits that a layer's program has on its target."""
    # Two float32 sums for each sample and channel; next to nothing where there are
    # many positions. Scratch memory may hold two pairs at a time.
    sums = 8 * layer.shape[0] * layer.shape[-1]
    if targets.TARGETS[row.target].platform == "cuda":
        kernels, moved = GPU_KERNELS[row.name], GPU_MOVED[row.name] * row.x
    else:
        # A TPU runs small computations on chip; their number says little. gamma, beta
        # and their gradients are 3% of x for 2560 channels and 128 positions in all.
        kernels = math.inf
        parameters = 4 * PARAMETERS[row.name] * layer.shape[-1]
        moved = (NEEDED[row.name] + TPU_SLACK) * row.x + parameters
    little = 0.05 * row.x
    largest, scratch = sums + little, 2 * sums + little
    if row.target == "v5p":
        array = _in_tiles(layer)
        moved += V5P_MOVED[row.name] * array
        largest, scratch = largest + array, scratch + V5P_SCRATCH * array
    return Limits(kernels, moved, largest, scratch)


def _in_tiles(layer):
    """Bytes of a float32 array of (N, G, C/G) in tiles of 8 by 128."""
    channels = layer.shape[-1] // layer.groups
    return 4 * layer.shape[0] * 8 * -(-layer.groups // 8) * 128 * -(-channels // 128)


def recorded(row: compiled.Row) -> Limits | None:
    """The record's numbers, if it was made with the same compilers; 1% is forgiven."""
    stamps, rows = _record()
    old = rows.get(row.key)
    if old is None or old.error:
        return None
    versions = stamps[row.target]["versions"]
    for name in ("jaxlib", COMPILERS[targets.TARGETS[row.target].platform]):
        if importlib.metadata.version(name) != versions[name]:
            return None
    return Limits(
        old.kernels,
        1.01 * old.moved,
        old.largest + 0.01 * row.x,
        old.scratch + 0.01 * row.x,
    )


@functools.cache
def _record():
    stamps, rows = compiled.load(compiled.RECORD)
    return stamps, {row.key: row for row in rows}
