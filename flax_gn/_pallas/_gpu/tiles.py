"""How a GPU kernel cuts its arrays: a pure function of shape and dtypes.

A thread block is one warpgroup of 128 threads. Arrays are (N, L, C), the spatial axes
as one, and a block works on some channels of one sample. What is decided here:

- the channels of a block. With whole groups, and all positions in shared memory, x is
  read once. Otherwise x is read twice, by two kernels, and any channels will do;
- the rows, the positions that the threads have in registers at a time: one value of
  each of ``rows * channels`` is in each place of a register for the whole kernel, so
  that sums and coefficients stay where they are;
- the chunk, the positions that are copied at a time;
- the splits, blocks that share the positions of a sample when they are read twice.
"""

import dataclasses
import math

THREADS = 128

# Of Hopper, which the kernels are for: multiprocessors, and memory of a block.
PROCESSORS = 132
SHARED_BYTES = 227 * 1024

# The copy engine takes up to 256 values along each axis, and multiples of 16 bytes.
_LONGEST = 256
_ALIGNMENT = 16

# Memory is read in sectors; a block that wants less of each gets them all the same.
_SECTOR = 32

# Eight values per thread fill its widest load, and leave registers for coefficients.
_LANES = 8 * THREADS
_CHUNK_BYTES = 1 << 13

# Copies under way in each block, and blocks of a processor: both hide latency.
STAGES = 3
_BLOCKS_PER_PROCESSOR = 4

# Of a block that sums: what it writes then weighs little beside what it read.
_LEAST_CHUNKS = 4

# Rows of coefficients that a kernel keeps at the most, and barriers.
_COEFFICIENTS = 5
_RESERVE = 2048


@dataclasses.dataclass(frozen=True)
class Tiles:
    """The cut of one kernel.

    Attributes:
      shape: of the view, (N, L, C).
      channels: C in a block; divides C.
      rows: positions in registers at a time; ``rows * channels`` is a multiple of 128.
      chunk: positions that are copied at a time; a multiple of ``rows``.
      splits: blocks that share a sample's positions. 0 if each block keeps all of
        them, for whole groups, and they are read once.
    """

    shape: tuple[int, int, int]
    channels: int
    rows: int
    chunk: int
    splits: int

    @property
    def columns(self) -> int:
        """Blocks along the channels."""
        return self.shape[2] // self.channels

    @property
    def lanes(self) -> int:
        """Values in registers at a time."""
        return self.rows * self.channels

    @property
    def chunks(self) -> int:
        """Chunks of a sample; the last one may stand over its end."""
        return -(-self.shape[1] // self.chunk)

    @property
    def per_split(self) -> int:
        """Chunks of a block, if it does not keep them."""
        return -(-self.chunks // self.splits)


class DoesNotFitError(ValueError):
    """No block of channels can be copied."""


def choose(
    shape: tuple[int, ...], groups: int, itemsizes: tuple[int, ...], *, keep: bool
) -> Tiles:
    """The cut for a kernel.

    Args:
      shape: (N, *spatial, C).
      groups: number of groups.
      itemsizes: bytes per value of each array of x's shape that is read or written.
      keep: whether a block may keep what it reads, if it fits.

    Raises:
      DoesNotFitError: see there.
    """
    n, *spatial, c = shape
    view = (n, math.prod(spatial), c)
    narrowest = min(itemsizes)
    cuts = [
        cut
        for cut in range(_ALIGNMENT // narrowest, min(c, _LONGEST) + 1)
        if c % cut == 0 and cut * narrowest % _ALIGNMENT == 0
    ]
    if not cuts:
        raise DoesNotFitError
    kept = [
        _keeping(view, cut)
        for cut in cuts
        if cut % (c // groups) == 0 and cut * narrowest >= _SECTOR
    ]
    kept = [tiles for tiles in kept if slab_bytes(tiles, itemsizes) <= SHARED_BYTES]
    if keep and kept:
        many = [t for t in kept if n * t.columns >= PROCESSORS]
        return many[-1] if many else kept[0]
    return _streaming(view, _even(cuts, narrowest), narrowest)


def slab_bytes(tiles: Tiles, itemsizes: tuple[int, ...]) -> int:
    """Shared memory of a block that keeps all positions.

    What is written takes the place of the first array that was read, if it can.
    """
    if itemsizes[0] == itemsizes[-1]:
        itemsizes = itemsizes[:-1]
    slab = tiles.chunks * tiles.chunk * tiles.channels * sum(itemsizes)
    # The coefficients, and a sum twice over; see `block.spread`.
    return slab + (_COEFFICIENTS + 2) * tiles.lanes * 4 + _RESERVE


def _keeping(view, channels) -> Tiles:
    """All positions in as few copies as can be, with as little as can be over."""
    rows = _rows(view[1], channels)
    longest = max(rows, _LONGEST // rows * rows)
    copies = -(-view[1] // longest)
    chunk = _round_up(-(-view[1] // copies), rows)
    return Tiles(view, channels, rows, chunk, splits=0)


def _streaming(view, channels, itemsize) -> Tiles:
    """Enough blocks to fill the chip, as far as there are chunks for them."""
    n, positions, c = view
    rows = _rows(positions, channels)
    fitting = min(_LONGEST, _CHUNK_BYTES // (channels * itemsize))
    chunk = max(rows, min(fitting, _round_up(positions, rows)) // rows * rows)
    chunks = -(-positions // chunk)
    wanted = -(-_BLOCKS_PER_PROCESSOR * PROCESSORS // (n * (c // channels)))
    per_split = -(-chunks // min(wanted, max(1, chunks // _LEAST_CHUNKS)))
    return Tiles(view, channels, rows, chunk, splits=-(-chunks // per_split))


def _rows(positions, channels) -> int:
    """A power of two: the least for whole registers, and more for wide loads."""
    rows = THREADS // math.gcd(THREADS, channels)
    while rows < positions and 2 * rows * channels <= _LANES:
        rows *= 2
    return rows


def _even(cuts, itemsize) -> int:
    """The channels for the widest loads: powers of two, unless they are too few."""
    even = [cut for cut in cuts if cut & (cut - 1) == 0 and cut * itemsize >= _SECTOR]
    return even[-1] if even else cuts[-1]


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
