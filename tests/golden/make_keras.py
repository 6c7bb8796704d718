"""Writes keras.npz: `keras.layers.GroupNormalization` on its JAX backend."""

import os

from tests.golden import autodiff, recipe
from tests.golden.recipe import COMMON, Arrays, Golden

CASES = COMMON


def make(golden: Golden) -> Arrays:
    """The inputs, and keras's results for them."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    affine = golden.gamma != "none"
    module = keras.layers.GroupNormalization(
        golden.groups, epsilon=golden.eps, center=affine, scale=affine
    )
    module.build(golden.shape)

    def norm(x, *parameters):
        return module.stateless_call(list(parameters), [], x)[0]

    return autodiff.make(golden, norm)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import jax
    import keras

    versions = {"keras": keras.__version__, "jax": jax.__version__}
    recipe.write("keras", versions, CASES, make)
