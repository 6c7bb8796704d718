"""Calls that take every way through the kernels, and what interprets them."""

import dataclasses

from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.experimental.pallas import tpu as pltpu

from flax_gn._pallas._interpret import Interpreter, interpreted
from flax_gn._pallas._tpu.tiles import MIB
from tests.cases import Case


@dataclasses.dataclass(frozen=True)
class Way:
    """A call, and the memory of a TPU for it.

    Attributes:
      case: the call.
      vmem_kib: memory of the core beyond the 2 MiB that are kept back.
      samples: N in a block, as it should be chosen.
      cut: how many blocks of channels.
      reads: 1 or 2.
      holds: whether there is room to hold dz in float32, backward.
    """

    case: Case
    vmem_kib: int = 14 * 1024
    samples: int = 1
    cut: int = 1
    reads: int = 1
    holds: bool = True

    @property
    def vmem_bytes(self) -> int:
        return 2 * MIB + self.vmem_kib * 1024


WAYS = [
    Way(Case("positions_as_one_axis", (2, 8, 8, 16), 4)),
    Way(Case("width_apart", (2, 5, 7, 24), 3, "bfloat16", activation="silu")),
    Way(Case("several_samples", (16, 3, 3, 8), 2, activation="relu"), samples=2),
    Way(Case("odd_lanes_one_group", (1, 3, 260), 1)),
    Way(Case("instance", (1, 9, 12), 12, activation="gelu")),
    Way(Case("channels_in_blocks", (1, 64, 256), 32), 250, cut=2),
    Way(Case("no_room", (1, 64, 256), 32, activation="silu"), 430, holds=False),
    Way(Case("two_reads", (1, 300, 24), 4), 450, reads=2),
    Way(
        Case("two_reads_width_apart", (2, 40, 7, 6), 3, "bfloat16", activation="silu"),
        430,
        reads=2,
    ),
]


@dataclasses.dataclass(frozen=True)
class WayOnGpu:
    """A call, and how a GPU should take it.

    Attributes:
      case: the call.
      keep: whether a block may keep what it reads.
      columns: blocks of channels.
      shares: blocks that share a sample's positions.
      cluster: whether that many are asked for, where it takes fewer to keep so little.
    """

    case: Case
    keep: bool = True
    columns: int = 1
    shares: int = 1
    cluster: bool = False


WAYS_ON_GPU = [
    WayOnGpu(Case("several_columns", (1, 3, 4, 64), 8, activation="relu"), columns=8),
    WayOnGpu(
        Case("positions_over", (2, 5, 7, 32), 2, "bfloat16", activation="silu"),
        columns=2,
    ),
    WayOnGpu(Case("one_group_mean", (1, 9, 24), 1, mean=1e5)),
    WayOnGpu(Case("instance", (2, 8, 16), 16, activation="gelu"), columns=2),
    WayOnGpu(Case("no_spatial_axis", (3, 128), 8, activation="gelu"), columns=8),
    WayOnGpu(
        Case("cluster", (2, 5, 8, 32), 4, activation="silu", mean=1e4),
        columns=2,
        shares=2,
        cluster=True,
    ),
    WayOnGpu(
        # Of 7 rows each four blocks have 2, 2, 2 and 1, and another four none.
        Case("cluster_positions_over", (1, 7, 256), 2, "bfloat16", activation="gelu"),
        shares=8,
        cluster=True,
    ),
    WayOnGpu(
        Case("streamed", (1, 132, 128), 8, activation="silu"),
        keep=False,
        shares=2,
    ),
    WayOnGpu(
        Case("streamed_positions_over", (2, 5, 9, 64), 4, "bfloat16", mean=1e3),
        keep=False,
        shares=1,
    ),
]


def named(ways):
    """Arguments of pytest.mark.parametrize for a list of ways."""
    return {"argnames": "way", "argvalues": ways, "ids": [w.case.name for w in ways]}


def on_simulated_gpu():
    """Kernels run with the GPU's memories and threads apart, and watched for races."""
    return interpreted(Interpreter(plgpu.InterpretGPUParams(detect_races=True)))


def on_simulated_memory(vmem_bytes=None):
    """Kernels run with memory that is NaN until it is written, and watched for races.

    What it raises is no more than an error in a kernel: reading outside of a block,
    and reading and writing the same place without an order between the two.
    """
    params = pltpu.InterpretParams(
        detect_races=True, uninitialized_memory="nan", out_of_bounds_reads="raise"
    )
    return interpreted(Interpreter(params, vmem_bytes))


def as_jax_operations(vmem_bytes=None):
    """Kernels run as the JAX operations they are written in.

    Every transformation goes through it; those that wrap a call of the simulation
    above lose its callbacks' order.
    """
    return interpreted(Interpreter(True, vmem_bytes))
