"""What a user would pick instead, behind one interface, and the floor below them all.

A contender turns a layer into a `Norm`, a function of x, gamma and beta. Each is used
where its package is installed.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import flax_gn
from experiments.benchmark import layers

Norm = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
Step = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], Any]

# The paper's epsilon for everyone; the libraries' defaults run from 1e-6 to 1e-3.
EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to normalise.

    Attributes:
      name: as it stands in records.
      norm: layer -> a function of x (N, *spatial, C), gamma (C,) and beta (C,) that
        normalises and applies the layer's activation.
      package: what must be installed.
      device: the platform it runs on, as `jax.default_backend` names it; None for any.
      floor_step: set where this is no group norm but a bound on what one could cost;
        then it is the bound on forward and backward together.
    """

    name: str
    norm: Callable[[layers.Layer], Norm]
    package: str = "jax"
    device: str | None = None
    floor_step: Callable[[layers.Layer], Step] | None = None

    @property
    def usable(self) -> bool:
        """Whether its package can be imported and the default device can run it."""
        if self.device not in (None, jax.default_backend()):
            return False
        return importlib.util.find_spec(self.package) is not None

    def step(self, layer: layers.Layer) -> Step:
        """A function of x, gamma, beta and dy: the output and the three gradients."""
        if self.floor_step is not None:
            return self.floor_step(layer)
        norm = self.norm(layer)

        def step(x, gamma, beta, dy):
            y, vjp = jax.vjp(norm, x, gamma, beta)
            return y, vjp(dy)

        return step


def _flax_gn(implementation: str) -> Callable[[layers.Layer], Norm]:
    def norm(layer):
        return lambda x, gamma, beta: flax_gn.group_norm(
            x,
            gamma,
            beta,
            layer.groups,
            eps=EPSILON,
            activation=layer.named_activation,
            implementation=implementation,
        )

    return norm


def _linen(*, use_fast_variance: bool) -> Callable[[layers.Layer], Norm]:
    def norm(layer):
        from flax import linen

        def apply(x, gamma, beta):
            module = linen.GroupNorm(
                layer.groups,
                epsilon=EPSILON,
                dtype=x.dtype,
                use_fast_variance=use_fast_variance,
            )
            y: Any = module.apply({"params": {"scale": gamma, "bias": beta}}, x)
            return _activate(layer, y)

        return apply

    return norm


def _nnx(layer: layers.Layer) -> Norm:
    from flax import nnx

    def apply(x, gamma, beta):
        module = nnx.GroupNorm(
            layer.shape[-1],
            layer.groups,
            epsilon=EPSILON,
            dtype=x.dtype,
            rngs=nnx.Rngs(0),
        )
        module.scale, module.bias = nnx.Param(gamma), nnx.Param(beta)
        return _activate(layer, module(x))

    return apply


def _haiku(layer: layers.Layer) -> Norm:
    import haiku

    def apply(x, gamma, beta):
        def run(x):
            module = haiku.GroupNorm(
                layer.groups, create_scale=False, create_offset=False, eps=EPSILON
            )
            return module(x, gamma.astype(x.dtype), beta.astype(x.dtype))

        return _activate(layer, haiku.transform(run).apply({}, None, x))

    return apply


def _equinox(layer: layers.Layer) -> Norm:
    import equinox

    def apply(x, gamma, beta):
        module = equinox.nn.GroupNorm(layer.groups, layer.shape[-1], eps=EPSILON)
        module = equinox.tree_at(lambda m: (m.weight, m.bias), module, (gamma, beta))
        y = jnp.moveaxis(jax.vmap(module)(jnp.moveaxis(x, -1, 1)), 1, -1)
        return _activate(layer, y.astype(x.dtype))

    return apply


def _keras(layer: layers.Layer) -> Norm:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    def apply(x, gamma, beta):
        module = keras.layers.GroupNormalization(
            layer.groups, epsilon=EPSILON, dtype=jnp.dtype(x.dtype).name
        )
        module.build(layer.shape)
        y, *_ = module.stateless_call([gamma, beta], [], x)
        return _activate(layer, y)

    return apply


def _activate(layer: layers.Layer, y: jax.Array) -> jax.Array:
    return y if layer.activation is None else layer.activation(y)


def _copy(layer: layers.Layer) -> Norm:
    """Reads x and writes as much: no norm can be faster."""
    del layer
    return lambda x, *_: x + 1


def _copy_step(layer: layers.Layer) -> Step:
    """Forward a copy; backward two arrays read and one written."""
    del layer
    return lambda x, _gamma, _beta, dy: (x + 1, x + dy)


def _scale_and_shift(layer: layers.Layer) -> Norm:
    """The norm with its statistics known: one read, one write."""

    def apply(x, gamma, beta):
        gamma, beta = (v.reshape((1,) * (x.ndim - 1) + v.shape) for v in (gamma, beta))
        y = x.astype(jnp.float32) * gamma + beta
        return _activate(layer, y).astype(x.dtype)

    return apply


def _scale_and_shift_step(layer: layers.Layer) -> Step:
    forward = _scale_and_shift(layer)

    def step(x, gamma, beta, dy):
        scale = gamma.reshape((1,) * (x.ndim - 1) + gamma.shape)
        dx = dy.astype(jnp.float32) * scale + x.astype(jnp.float32)
        return forward(x, gamma, beta), dx.astype(x.dtype)

    return step


def _two_passes(layer: layers.Layer) -> Norm:
    """Reads x for one bare sum, and again for a scale and shift.

    No norm can write its output before it has read all of its input. The sum is added
    up in the way that was found fastest on a CPU, eight parts of x at once.
    """
    forward = _scale_and_shift(layer)

    def apply(x, gamma, beta):
        total, (x,) = _sum_of_all(x)
        return forward(x, gamma + 0 * total, beta)

    return apply


def _two_passes_step(layer: layers.Layer) -> Step:
    forward, backward = _two_passes(layer), _scale_and_shift_step(layer)

    def step(x, gamma, beta, dy):
        total, (x_again, dy) = _sum_of_all(x, dy)
        _, dx = backward(x_again, gamma + 0 * total, beta, dy)
        return forward(x, gamma, beta), dx, total

    return step


def _sum_of_all(*arrays: jax.Array) -> tuple[jax.Array, Sequence[jax.Array]]:
    """Per channel, the sum of all arrays; and the arrays, for a pass of their own."""
    size = arrays[0].shape[1]
    parts = max(n for n in range(1, 9) if size % n == 0)
    added = sum(
        part.astype(jnp.float32)
        for array in arrays
        for part in jnp.split(array, parts, axis=1)
    )
    added = jax.lax.optimization_barrier(added)
    total = jnp.sum(added, tuple(range(added.ndim - 1)))
    return total, jax.lax.optimization_barrier(arrays)


ALL: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("flax_gn xla", _flax_gn("xla")),
        Contender("flax_gn pallas_gpu", _flax_gn("pallas_gpu"), device="gpu"),
        Contender("flax_gn pallas_tpu", _flax_gn("pallas_tpu"), device="tpu"),
        Contender("flax_gn reference", _flax_gn("reference")),
        Contender("flax.linen", _linen(use_fast_variance=True), "flax"),
        Contender("flax.linen two-pass", _linen(use_fast_variance=False), "flax"),
        Contender("flax.nnx", _nnx, "flax"),
        Contender("haiku", _haiku, "haiku"),
        Contender("equinox", _equinox, "equinox"),
        Contender("keras", _keras, "keras"),
        Contender("copy", _copy, floor_step=_copy_step),
        Contender(
            "scale and shift", _scale_and_shift, floor_step=_scale_and_shift_step
        ),
        Contender("two passes", _two_passes, floor_step=_two_passes_step),
    )
}


def named(names: Sequence[str]) -> list[Contender]:
    """The contenders of these names that can be used here."""
    return [ALL[name] for name in names if ALL[name].usable]
