"""A norm's programs are not much longer than those of flax.linen's.

Counts, which every run gives alike; `python -m experiments.benchmark.cost` has the
times of whole networks.
"""

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark import cost, cost_networks

# The most that ours may have for each of flax.linen's, over the shapes below, compiled
# for a CPU. Lower them with the counts.
LIMITS = {
    "forward": {"equations": 2.5, "stablehlo": 2.8, "hlo": 2.6},
    "value_and_grad": {"equations": 1.5, "stablehlo": 1.75, "hlo": 1.45},
}
SHAPES = [(2, 64, 64, 320), (1, 64, 64, 1280), (1, 8, 8, 2560), (2, 16, 16, 64)]


@pytest.mark.parametrize("mode", LIMITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_norm_is_not_much_longer_than_that_of_flax(shape, mode):
    ours, linen = (
        _size(make, shape, mode)
        for make in (cost_networks.NORMS[name] for name in ("flax_gn", "flax.linen"))
    )
    times = {name: getattr(ours, name) / getattr(linen, name) for name in LIMITS[mode]}
    over = {name for name, limit in LIMITS[mode].items() if times[name] > limit}
    assert not over, f"{times}; {ours}, flax.linen {linen}"


def _size(make, shape, mode):
    layer = make(name=None)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    variables = jax.eval_shape(layer.init, jax.random.key(0), x)

    def loss(variables, x):
        return jnp.sum(jnp.sin(layer.apply(variables, x)))

    step = jax.value_and_grad(loss, (0, 1))
    return cost.size(layer.apply if mode == "forward" else step, variables, x)
