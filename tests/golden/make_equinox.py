"""Writes equinox.npz: `equinox.nn.GroupNorm`, mapped over the samples."""

from tests.golden import autodiff, recipe
from tests.golden.recipe import COMMON, Arrays, Golden

CASES = COMMON


def make(golden: Golden) -> Arrays:
    """The inputs, and equinox's results for them."""
    import equinox
    import jax
    import jax.numpy as jnp

    affine = golden.gamma != "none"

    def norm(x, *parameters):
        module = equinox.nn.GroupNorm(
            golden.groups,
            golden.shape[-1],
            eps=golden.eps,
            channelwise_affine=affine,
        )
        if affine:
            module = equinox.tree_at(lambda m: (m.weight, m.bias), module, parameters)
        return jnp.moveaxis(jax.vmap(module)(jnp.moveaxis(x, -1, 1)), 1, -1)

    return autodiff.make(golden, norm)


if __name__ == "__main__":
    import equinox
    import jax

    versions = {"equinox": equinox.__version__, "jax": jax.__version__}
    recipe.write("equinox", versions, CASES, make)
