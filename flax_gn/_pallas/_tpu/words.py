"""Words that a TPU is fast at.

A logistic function is an exponential and a division, which is half the instructions of
the kernel that applies SiLU. A TPU has an instruction for tanh, and
logistic(z) = (1 + tanh(z / 2)) / 2. That is 1e-7 off at the most, which is less than a
bfloat16 result shows but where it is next to zero; float32 has the division.
"""

from typing import Any

import jax.numpy as jnp

from flax_gn._pallas._activation import Words


def of(dtype: Any) -> Words:
    """The words for kernels that read arrays of a dtype."""
    return {"logistic": _logistic} if dtype == jnp.bfloat16 else {}


def _logistic(z):
    return 0.5 * jnp.tanh(0.5 * z) + 0.5
