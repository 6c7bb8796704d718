"""Group norm in one kernel each way on a GPU, or two (Pallas, Mosaic GPU)."""

from functools import partial

from flax_gn._pallas import _op
from flax_gn._pallas._gpu import backward, forward, tiles
from flax_gn._words import said

_NAME = "pallas_gpu"


def choose(
    shape: tuple[int, ...], groups: int, itemsizes: tuple[int, ...], keep: bool
) -> tiles.Tiles:
    """See `tiles.choose`.

    Raises:
      NotImplementedError: there is no cut.
    """
    try:
        return tiles.choose(shape, groups, itemsizes, keep=keep)
    except tiles.DoesNotFitError:
        raise NotImplementedError(
            said(
                f'`implementation`="{_NAME}" copies rows of channels in multiples of '
                f"16 bytes; got `x` of shape {shape} with {min(itemsizes)} bytes a "
                'value. Leave `implementation` out, or pass "xla".'
            )
        ) from None


KERNELS = _op.Kernels(
    name=_NAME,
    platform="cuda",
    machines="NVIDIA GPUs (Hopper or later)",
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
