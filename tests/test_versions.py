"""What an old version cannot do is refused with the version that can.

`make test-oldest` runs the op's suite on the oldest versions themselves.
"""

import types

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from flax_gn import group_norm, nnx
from flax_gn._versions import of_flax, of_jax


@pytest.mark.parametrize("implementation", ["pallas_gpu", "pallas_tpu"])
def test_kernels(monkeypatch, implementation):
    monkeypatch.setattr(of_jax, "has_kernels", lambda: False)
    with pytest.raises(
        NotImplementedError, match=rf"needs jax 0\.11\.1; this is jax {jax.__version__}"
    ):
        group_norm(jnp.ones((1, 2, 4)), groups=2, implementation=implementation)


@pytest.mark.skipif(of_jax.has_kernels(), reason="this jax has the kernels")
def test_kernels_of_an_old_jax():
    with pytest.raises(NotImplementedError, match=r"needs jax 0\.11\.1"):
        group_norm(jnp.ones((1, 2, 4)), groups=2, implementation="pallas_tpu")


def test_masks_of_open_sizes(monkeypatch):
    monkeypatch.setattr(of_jax, "has_open_masks", lambda: False)
    n = export.symbolic_shape("n, l")
    x, mask = jax.ShapeDtypeStruct((*n, 4), "float32"), jax.ShapeDtypeStruct(n, "bool")
    with pytest.raises(NotImplementedError, match=r"jax 0\.7\.1 on"):
        export.export(jax.jit(lambda x, mask: group_norm(x, groups=2, mask=mask)))(
            x, mask
        )
    x, mask = jnp.ones((1, 3, 4)), jnp.ones((1, 3), bool)
    np.testing.assert_array_equal(group_norm(x, groups=2, mask=mask), 0)


def test_axes_that_vary_by_either_name():
    new = types.SimpleNamespace(
        manual_axis_type=types.SimpleNamespace(varying=frozenset("i"))
    )
    old = types.SimpleNamespace(vma=frozenset("i"))
    assert of_jax.varying(new) == of_jax.varying(old) == {"i"}


def _as_before(monkeypatch, name):
    takes = of_flax._takes
    monkeypatch.setattr(
        of_flax, "_takes", lambda f, asked: asked != name and takes(f, asked)
    )


def test_metadata(monkeypatch):
    _as_before(monkeypatch, "bias_metadata")
    rngs = flax.nnx.Rngs(0)
    assert nnx.GroupNorm(8, 2, rngs=rngs)(jnp.ones((1, 3, 8))).shape == (1, 3, 8)
    with pytest.raises(NotImplementedError, match=r"GroupNorm: .*need flax 0\.12\.1"):
        nnx.GroupNorm(8, 2, scale_metadata={"owner": "norm"}, rngs=rngs)


def test_a_function_of_the_callers_promotes_in_old_versions_as_well(monkeypatch):
    _as_before(monkeypatch, "bias_metadata")

    def twice(arrays, dtype=None):
        del dtype
        return [2 * a for a in arrays]

    layer = nnx.GroupNorm(8, 2, promote_dtype=twice, rngs=flax.nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (1, 3, 8))
    expected = group_norm(2 * x, jnp.full(8, 2.0), jnp.zeros(8), 2, eps=1e-6)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


def test_out_sharding(monkeypatch):
    _as_before(monkeypatch, "out_sharding")
    layer = nnx.WSConv(3, 4, kernel_size=(3,), rngs=flax.nnx.Rngs(0))
    assert layer(jnp.ones((1, 5, 3))).shape == (1, 5, 4)
    with pytest.raises(NotImplementedError, match=r"WSConv: .*needs flax 0\.12\.3"):
        layer(jnp.ones((1, 5, 3)), jax.sharding.PartitionSpec())


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_modules(monkeypatch, old):
    if old:
        _as_before(monkeypatch, "graph")
    rngs = flax.nnx.Rngs(0)
    norm = nnx.GroupNorm(8, 2, rngs=rngs)
    model = flax.nnx.Sequential(flax.nnx.Linear(8, 8, rngs=rngs), norm)
    assert {id(model), id(norm)} <= {id(module) for module in of_flax.modules(model)}


@pytest.mark.skipif(
    hasattr(flax.nnx, "InstanceNorm"), reason="this flax has an InstanceNorm"
)
def test_instance_norm_of_an_old_flax():
    with pytest.raises(
        NotImplementedError, match=r"InstanceNorm: .*flax 0\.12\.0 on.*group_size=1"
    ):
        nnx.InstanceNorm(8, rngs=flax.nnx.Rngs(0))
