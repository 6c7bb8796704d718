"""What the compiler for GPUs has no word for.

Derivatives add cotangents by an operation of their own, and softplus takes log(1 + x)
by another. The compiler has rules for neither, and needs none.
"""

import jax.numpy as jnp


def _log1p(x):
    """Exact where 1 + x rounds (Goldberg, ACM Computing Surveys 23 (1991), th. 4)."""
    rounded = 1.0 + x
    return jnp.where(rounded == 1.0, x, jnp.log(rounded) * (x / (rounded - 1.0)))


WORDS = {"add_any": jnp.add, "log1p": _log1p}
