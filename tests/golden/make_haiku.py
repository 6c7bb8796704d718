"""Writes haiku.npz: `haiku.GroupNorm`, with scale and offset given at call time."""

from tests.golden import autodiff, recipe
from tests.golden.recipe import COMMON, Arrays, Golden

CASES = (
    *COMMON,
    Golden("per_sample", (3, 4, 2, 8), 2, gamma="sample"),
    Golden("per_sample_3d", (2, 5, 12), 3, gamma="sample"),
)


def make(golden: Golden) -> Arrays:
    """The inputs, and haiku's results for them."""
    import haiku
    import jax.numpy as jnp

    affine = golden.gamma != "none"

    def norm(x, *parameters):
        if golden.gamma == "sample":
            axes = tuple(range(1, x.ndim - 1))
            parameters = tuple(jnp.expand_dims(p, axes) for p in parameters)

        def run(x):
            module = haiku.GroupNorm(
                golden.groups,
                create_scale=False,
                create_offset=False,
                eps=golden.eps,
            )
            return module(x, *(parameters if affine else ()))

        return haiku.transform(run).apply({}, None, x)

    return autodiff.make(golden, norm)


if __name__ == "__main__":
    import haiku
    import jax

    versions = {"dm-haiku": haiku.__version__, "jax": jax.__version__}
    recipe.write("haiku", versions, CASES, make)
