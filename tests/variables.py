"""Random input and parameters for the tests of the layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

SHAPE = (2, 4, 4, 8)


def random(shape=SHAPE, seed=0, dtype=jnp.float32):
    values = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(values.astype(np.float32)).astype(dtype)


def apply(layer: nn.Module, variables, x, **call) -> Any:
    """``layer.apply``, compiled as a whole: op by op Flax compiles dozens of times."""
    return jax.jit(layer.apply)(variables, x, **call)


def randomized(layer: nn.Module, x, seed=1):
    """Variables with random scale and bias, so that neither can be forgotten."""
    variables = jax.eval_shape(lambda: layer.init(jax.random.key(0), x))
    leaves, tree = jax.tree.flatten(variables)
    leaves = [random(leaf.shape, seed + i, leaf.dtype) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, leaves)
