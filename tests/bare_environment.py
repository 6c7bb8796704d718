"""What has to work where nothing but the wheel is installed.

`.ci/run` runs it there, with Python alone and away from the checkout:

    python -I bare_environment.py README.md
"""

import importlib.metadata
import importlib.util
import pathlib
import re
import sys

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import flax_gn
import flax_gn.linen
import flax_gn.nnx


def main(readme: str) -> None:
    package = pathlib.Path(flax_gn.__file__).parent
    assert "site-packages" in package.parts, f"this is a checkout: {package}"
    assert importlib.util.find_spec("experiments") is None
    examples(pathlib.Path(readme).read_text())
    layers()
    versions = [f"{n} {importlib.metadata.version(n)}" for n in ("jax", "flax")]
    print("the README and both layers work with", *versions, "Python", sys.version)


def examples(readme: str) -> None:
    """Runs the Python of a page, block by block, as one program."""
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 2, "the README has lost its examples"
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)


def layers() -> None:
    """Output and gradients of both layers beside those of Flax's own."""
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 16)) * 2 + 1
    ours, flaxs = flax_gn.linen.GroupNorm(4), flax.linen.GroupNorm(4)
    variables = ours.init(jax.random.key(1), x)
    same(
        *(
            jax.jit(jax.value_and_grad(lambda v, m=m: jnp.sin(m.apply(v, x)).sum()))(
                variables
            )
            for m in (ours, flaxs)
        )
    )
    graphs = (
        layer(16, num_groups=4, rngs=nnx.Rngs(0))
        for layer in (flax_gn.nnx.GroupNorm, nnx.GroupNorm)
    )
    of_x = nnx.value_and_grad(lambda m, x: jnp.sin(m(x)).sum(), argnums=1)
    same(*(of_x(graph, x) for graph in graphs))


def same(ours: object, theirs: object) -> None:
    def close(a: jax.Array, b: jax.Array) -> None:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    jax.tree.map(close, ours, theirs)


if __name__ == "__main__":
    main(*sys.argv[1:])
