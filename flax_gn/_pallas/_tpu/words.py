"""Words that a TPU is fast at.

A logistic function is an exponential and a division, which up to v5 is half the
instructions of the kernel that applies SiLU. A TPU has an instruction for tanh, and
logistic(z) = (1 + tanh(z / 2)) / 2. That is 1e-7 off at the most, which is less than a
bfloat16 result shows but where it is next to zero; float32 has the division. By the
schedule of the compiler for v6e and 7x they gain nothing from it (docs/kernels.md).
"""

from typing import Any

import jax.numpy as jnp
from jax.experimental.pallas import tpu as pltpu

from flax_gn._pallas._activation import Words

_DIVIDES_FAST = 6


def of(dtype: Any) -> Words:
    """The words for kernels that read arrays of a dtype, on the chip compiled for."""
    if dtype != jnp.bfloat16:
        return {}
    try:
        generation = pltpu.get_tpu_info().generation
    except ValueError:  # no TPU is compiled for
        return {}
    return {"logistic": _logistic} if generation < _DIVIDES_FAST else {}


def _logistic(z):
    return 0.5 * jnp.tanh(0.5 * z) + 0.5
