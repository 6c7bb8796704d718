"""Gradients of the peers that are written in JAX."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.golden import recipe
from tests.golden.recipe import Arrays, Golden


def make(golden: Golden, norm: Callable[..., Any]) -> Arrays:
    """The inputs in float32, and the results for them.

    Args:
      golden: the case.
      norm: a function of x, gamma and beta, or of x alone without them.
    """
    import jax

    given = {
        name: values.astype(np.float32)
        for name, values in recipe.inputs(golden).items()
    }
    primals = [given[name] for name in ("x", "gamma", "beta") if name in given]
    y, pullback = jax.vjp(norm, *primals)
    results = dict(zip(("dx", "dgamma", "dbeta"), pullback(given["dy"]), strict=False))
    return given | {name: np.asarray(v) for name, v in {"y": y, **results}.items()}
