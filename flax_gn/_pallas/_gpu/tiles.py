"""How a GPU kernel cuts its arrays: a pure function of shape and dtypes.

A thread block is one warpgroup of 128 threads. Arrays are (N, L, C), the spatial axes
as one, and a block works on some channels of one sample. What is decided here:

- the channels of a block. With whole groups, and all positions in the shared memory of
  a block or of a cluster of blocks, x is read once. Otherwise x is read twice, by two
  kernels, and any channels will do;
- the rows, the positions that the threads have in registers at a time: one value of
  each of ``rows * channels`` is in each place of a register for the whole kernel, so
  that sums and coefficients stay where they are;
- the chunk, the positions that are copied at a time;
- the blocks that share the positions of a sample. A cluster is as small as fills the
  chip, and as large as it may be where nothing does.
"""

import dataclasses
import itertools
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

# Blocks to a cluster; more than 8 have to be asked for, and not every chip has them.
_CLUSTERS = (1, 2, 4, 8)

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
      kept: whether the blocks keep their positions, of whole groups: x is read once,
        and those that share a sample are a cluster.
      shares: blocks that share a sample's positions.
    """

    shape: tuple[int, int, int]
    channels: int
    rows: int
    chunk: int
    kept: bool
    shares: int

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
    def per_block(self) -> int:
        """Chunks of a block; the last ones that share a sample may have fewer."""
        return -(-self.chunks // self.shares)

    @property
    def blocks(self) -> int:
        """All of them."""
        return self.shape[0] * self.columns * self.shares

    @property
    def told(self) -> int:
        """Rows of ``lanes`` that take one sum of every block of a cluster."""
        return -(-self.shares // self.rows) if self.kept and self.shares > 1 else 0


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
        _keeping(view, cut, shares)
        for shares, cut in itertools.product(_CLUSTERS, cuts)
        if cut % (c // groups) == 0 and cut * narrowest >= _SECTOR
    ]
    kept = [
        tiles
        for tiles in kept
        if slab_bytes(tiles, itemsizes) <= SHARED_BYTES and _worth(tiles, narrowest)
    ]
    if keep and kept:
        return _filling(kept)
    return _streaming(view, _even(cuts, narrowest), narrowest)


def slab_bytes(tiles: Tiles, itemsizes: tuple[int, ...]) -> int:
    """Shared memory of a block that keeps its positions.

    What is written takes the place of the first array that was read, if it can.
    """
    if itemsizes[0] == itemsizes[-1]:
        itemsizes = itemsizes[:-1]
    slab = tiles.per_block * tiles.chunk * tiles.channels * sum(itemsizes)
    # The coefficients, a sum twice over (`block.spread`), two that blocks tell another.
    values = (_COEFFICIENTS + 2 + 2 * tiles.told) * tiles.lanes
    return slab + values * 4 + _RESERVE


def _keeping(view, channels, shares) -> Tiles:
    """All positions in as few copies as can be, with as little as can be over."""
    positions = -(-view[1] // shares)
    rows = _rows(positions, channels)
    longest = max(rows, _LONGEST // rows * rows)
    copies = -(-positions // longest)
    chunk = _round_up(-(-positions // copies), rows)
    return Tiles(view, channels, rows, chunk, kept=True, shares=shares)


def _worth(tiles, itemsize) -> bool:
    """Whether each block of a cluster has more to read than to tell the others."""
    slab = tiles.per_block * tiles.chunk * tiles.channels * itemsize
    return tiles.shares == 1 or slab >= _LEAST_CHUNKS * _CHUNK_BYTES


def _filling(kept) -> Tiles:
    """The most channels and fewest blocks to a cluster, if they fill the chip."""
    filling = [tiles for tiles in kept if tiles.blocks >= PROCESSORS]
    if not filling:
        return max(kept, key=lambda tiles: tiles.blocks)
    fewest = min(tiles.shares for tiles in filling)
    return [tiles for tiles in filling if tiles.shares == fewest][-1]


def _streaming(view, channels, itemsize) -> Tiles:
    """Enough blocks to fill the chip, as far as there are chunks for them."""
    n, positions, c = view
    rows = _rows(positions, channels)
    fitting = min(_LONGEST, _CHUNK_BYTES // (channels * itemsize))
    chunk = max(rows, min(fitting, _round_up(positions, rows)) // rows * rows)
    chunks = -(-positions // chunk)
    wanted = -(-_BLOCKS_PER_PROCESSOR * PROCESSORS // (n * (c // channels)))
    per_block = -(-chunks // min(wanted, max(1, chunks // _LEAST_CHUNKS)))
    shares = -(-chunks // per_block)
    return Tiles(view, channels, rows, chunk, kept=False, shares=shares)


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
