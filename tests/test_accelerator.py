"""Every layer of the table in full size, on the GPU or TPU that is there.

    JAX_PLATFORMS=cuda pytest tests/test_accelerator.py

The kernels run as they are, and so does what XLA makes of the op for the device. The
expected values are the equations in float64, on the same device.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmark import layers, measure
from flax_gn import group_norm
from tests import tolerances

KERNELS = {"gpu": "pallas_gpu", "tpu": "pallas_tpu"}
TABLE = layers.load()
PLATFORM = jax.default_backend()
# Beyond the deviation of 1, so that an uncentred sum would lose digits.
MEAN = 10.0
NEAR_KINK = 1e-3

pytestmark = pytest.mark.skipif(
    PLATFORM not in KERNELS,
    reason="needs a GPU or TPU: JAX_PLATFORMS=cuda pytest tests/test_accelerator.py",
)


def _function(layer, implementation, **options):
    return functools.partial(
        group_norm,
        groups=layer.groups,
        implementation=implementation,
        **{"activation": layer.named_activation} | options,
    )


def _inputs(layer, dtype):
    x, gamma, beta, dy = measure.inputs(layer, dtype, "step")
    x = MEAN + x
    if layer.activation_name == "relu":
        # Rounding decides on which side of its kink a value is that close to it.
        z = _function(layer, "xla", activation=None, dtype=jnp.float32)(x, gamma, beta)
        dy = jnp.where(jnp.abs(z) < NEAR_KINK, 0, dy)
    return x, gamma, beta, dy


def _both_passes(function):
    def run(x, gamma, beta, dy):
        y, vjp = jax.vjp(function, x, gamma, beta)
        return y, *vjp(dy)

    return jax.jit(run)


def _expected(layer, arguments):
    with jax.enable_x64(True):
        wide = [a.astype(jnp.float64) for a in arguments]
        return _both_passes(_function(layer, "reference"))(*wide)


def _assert_close(actual, expected, dtype, values, what):
    """Within the sums' error, of values so many, on the scale of the largest one."""
    with jax.enable_x64(True):
        error = jnp.abs(actual.astype(jnp.float64) - expected)
        scale = jnp.max(jnp.abs(expected))
        sums = tolerances.relative(dtype, values) * scale
        rounding = tolerances.unit(actual.dtype) * jnp.abs(expected)
        worst = jnp.max(error / (sums + rounding))
        assert worst <= 1, f"{what}: {float(worst):.3g} times the bound"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TABLE)
def test_both_passes(name, dtype):
    layer = TABLE[name]
    arguments = _inputs(layer, dtype)
    expected = _expected(layer, arguments)
    m = int(np.prod(layer.shape[1:])) // layer.groups
    for implementation in (KERNELS[PLATFORM], "xla"):
        both = _both_passes(_function(layer, implementation))
        first, again = both(*arguments), both(*arguments)
        names = ("y", "gradient of x", "gradient of gamma", "gradient of beta")
        for what, got, twice, want in zip(names, first, again, expected, strict=True):
            assert got.shape == want.shape
            _assert_close(got, want, dtype, m, f"{implementation}: {what}")
            # Blocks that race for the same place would differ from run to run.
            assert jnp.array_equal(got, twice), f"{implementation}: {what}, run twice"
