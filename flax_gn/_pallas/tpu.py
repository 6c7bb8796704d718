"""Group norm in one kernel each way on a TPU (Pallas, Mosaic TPU)."""

from functools import partial

from jax.experimental.pallas import tpu as pltpu

from flax_gn._pallas import _op
from flax_gn._pallas._interpret import interpreted
from flax_gn._pallas._tpu import backward, forward, tiles
from flax_gn._words import said

_NAME = "pallas_tpu"
_SMALLEST_VMEM = 16 * tiles.MIB


def choose(
    shape: tuple[int, ...], groups: int, itemsizes: tuple[int, ...], keep: bool
) -> tiles.Tiles:
    """The cut for the chip that is compiled for; see `tiles.choose`.

    It serves kernels with one pass over their arrays as well as those with two.

    Raises:
      NotImplementedError: nothing fits into its memory.
    """
    del keep
    memory = vmem_bytes()
    try:
        return tiles.choose(shape, groups, itemsizes, memory)
    except tiles.DoesNotFitError:
        raise NotImplementedError(
            said(
                f'`implementation`="{_NAME}" finds no block of `x` of shape {shape} '
                "with whole groups that fits in the memory of a TPU core, "
                f'{memory} bytes. Leave `implementation` out, or pass "xla".'
            )
        ) from None


def vmem_bytes() -> int:
    """Memory of a core: of the mesh's device, or of the process's; else the least.

    A program that is compiled for a chip elsewhere says for which with
    `jax.sharding.use_abstract_mesh`, as all Pallas kernels have it.
    """
    if interpreted.value is not None:
        return interpreted.value.vmem_bytes or _SMALLEST_VMEM
    try:
        return pltpu.get_tpu_info().vmem_capacity_bytes
    except ValueError:
        return _SMALLEST_VMEM


KERNELS = _op.Kernels(
    name=_NAME,
    platform="tpu",
    machines="TPUs",
    choose=choose,
    forward=forward.forward,
    statistics=forward.statistics,
    normalise=forward.normalise,
    backward=backward.backward,
    gradient_sums=backward.gradient_sums,
    gradient=backward.gradient,
)
group_norm = partial(_op.group_norm, KERNELS)
group_stats = partial(_op.group_stats, KERNELS)
