"""How a TPU kernel cuts its arrays: a pure function of shape, dtypes and memory.

A TPU keeps an array in tiles of 8 rows of 128 channels, and its vector memory, VMEM,
holds a few blocks of such tiles beside each other. What is decided here:

- the view: (N, L, C), the spatial axes as one, where that moves nothing in memory, and
  (N, L, W, C) with the last spatial axis apart where it would, since rows of W
  positions are padded to whole tiles;
- the block: how many samples, positions and channels a step of the grid holds. Whole
  groups of channels always; all positions if a sample's slab fits (one read), and
  some of them otherwise (two reads);
- the chunk: the positions that a kernel's inner loop has in registers at a time.
"""

import dataclasses
import math

LANES = 128
SUBLANES = 8

# Rows of a chunk start where a tile of the narrowest type does, two bytes wide.
_ROWS = 16

# A quarter of the register file: more would be spilled, less is mostly overhead.
_CHUNK_BYTES = 1 << 16

# A step's fixed cost is then a small part of it, and there are many steps to overlap.
_BLOCK_BYTES = 1 << 20
_FEWEST_STEPS = 8

# A row of the view with a W of its own; longer ones are taken apart.
_LONGEST_ROW = 256

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Tiles:
    """The cut of one kernel.

    Attributes:
      shape: of the view, (N, L, C) or (N, L, W, C).
      samples: N in a block; divides N.
      positions: L in a block; the last block of a sample may hold fewer.
      channels: C in a block; divides C, and holds whole groups.
      chunk: L in a chunk; divides ``positions`` if a sample has several blocks.
      vmem_bytes: the memory that the kernel asks for.
      holding_bytes: the same for one that also holds a float32 value for every place of
        the block; 0 where there is no room for them.
    """

    shape: tuple[int, ...]
    samples: int
    positions: int
    channels: int
    chunk: int
    vmem_bytes: int
    holding_bytes: int

    @property
    def blocks(self) -> int:
        """Blocks along L; with more than one, x is read twice."""
        return -(-self.shape[1] // self.positions)

    @property
    def tail(self) -> int:
        """Positions of L after the last whole chunk."""
        return self.shape[1] % self.chunk

    @property
    def lanes(self) -> int:
        """``channels``, padded to whole registers."""
        return round_up(self.channels, LANES)


class DoesNotFitError(ValueError):
    """Not even the smallest block fits."""


def choose(
    shape: tuple[int, ...],
    groups: int,
    itemsizes: tuple[int, ...],
    vmem_bytes: int,
) -> Tiles:
    """The cut for a kernel.

    Args:
      shape: (N, *spatial, C).
      groups: number of groups.
      itemsizes: bytes per value of each array of x's shape that is read or written.
      vmem_bytes: the memory of a core.

    Raises:
      DoesNotFitError: see there.
    """
    n, *spatial, c = shape
    view = (n, *_view(tuple(spatial)), c)
    inner = view[2:-1]
    budget = vmem_bytes - _reserve(vmem_bytes)

    def step(samples, positions, channels):
        """Bytes of a block in every array, each twice: one moves, one is used."""
        large = sum(
            block_bytes((positions, *inner, channels), size) for size in itemsizes
        )
        return 2 * samples * (large + 2 * block_bytes((SUBLANES, channels), 4))

    def tiles(samples, positions, channels):
        used = step(samples, positions, channels)
        holding = used + samples * block_bytes((positions, *inner, channels), 4)
        reserve = 2 * _reserve(vmem_bytes)
        return Tiles(
            view,
            samples,
            positions,
            channels,
            _chunk(inner, channels, positions),
            min(vmem_bytes, used + reserve),
            min(vmem_bytes, holding + reserve) if holding <= budget else 0,
        )

    cuts = _channel_cuts(c, c // groups)
    whole = [cut for cut in cuts if step(1, view[1], cut) <= budget]
    target = 2 * len(itemsizes) * _BLOCK_BYTES
    if whole:
        channels = next((cut for cut in whole if step(1, view[1], cut) >= target), None)
        channels = channels or whole[-1]
        samples = max(
            count
            for count in _divisors(n)
            if count == 1
            or (
                channels == c
                and n // count >= _FEWEST_STEPS
                and step(count, view[1], c) <= min(target, budget)
            )
        )
        return tiles(samples, view[1], channels)
    fitting = [cut for cut in cuts if step(1, _chunk(inner, cut), cut) <= budget]
    if not fitting:
        raise DoesNotFitError
    channels = fitting[-1]
    chunk = _chunk(inner, channels)
    per_chunk = step(1, chunk, channels)
    several = max(1, min(target, budget) // per_chunk)
    return tiles(1, chunk * several, channels)


def block_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of a block in VMEM, where its last two axes are padded to whole tiles."""
    *major, rows, lanes = shape
    packed = SUBLANES * 4 // itemsize
    padded = round_up(rows, packed) * round_up(lanes, LANES)
    return math.prod(major) * padded * itemsize


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _view(spatial: tuple[int, ...]) -> tuple[int, ...]:
    """Spatial axes of the view: (L,) or (L, W)."""
    positions = math.prod(spatial)
    width = spatial[-1] if spatial else 1
    if positions == width or width % SUBLANES == 0 or width > _LONGEST_ROW:
        return (positions,)
    return positions // width, width


def _chunk(inner, channels, positions=None) -> int:
    row = block_bytes((*inner, channels) if inner else (SUBLANES, channels), 4)
    row = row if inner else row // SUBLANES
    chunk = max(1, _CHUNK_BYTES // row)
    if not inner:
        chunk = max(_ROWS, chunk // _ROWS * _ROWS)
    return chunk if positions is None else min(chunk, positions)


def _channel_cuts(channels: int, group: int) -> list[int]:
    """Numbers of channels a block may have, ascending: whole groups, whole tiles."""
    unit = math.lcm(LANES, group)
    return [cut for cut in _divisors(channels) if cut == channels or cut % unit == 0]


def _divisors(value: int) -> list[int]:
    low = [d for d in range(1, math.isqrt(value) + 1) if value % d == 0]
    return sorted({*low, *(value // d for d in low)})


def _reserve(vmem_bytes: int) -> int:
    """What a kernel leaves for values that do not stay in registers."""
    return max(2 * MIB, vmem_bytes // 8)
