"""Whole training steps with each group norm swapped in, since users pay for steps.

A step is a network's loss and its gradients for all parameters; the optimizer's update
is left out, being the same for all.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.typing import Dtype, Initializer

from experiments.benchmark import contenders, layers, measure, program, timing
from flax_gn import models


@dataclasses.dataclass(frozen=True)
class StepResult:
    """What one contender's step took.

    Attributes:
      network: a name in `NETWORKS`.
      contender: its name.
      dtype: of the computation; parameters are float32.
      compile_seconds: to compile.
      seconds: median over rounds.
      rounds: how many rounds.
      times_linen: how many times faster than flax.linen's step, paired within rounds.
      temporaries: scratch bytes of the compiled step.
      kept: bytes kept from the forward for the backward pass, the parameters aside.
      error: why there is no time.
    """

    network: str
    contender: str
    dtype: str
    compile_seconds: float | None = None
    seconds: float | None = None
    rounds: int | None = None
    times_linen: float | None = None
    temporaries: int | None = None
    kept: int | None = None
    error: str | None = None


class SwappedNorm(nn.Module):
    """A contender as a layer.

    Attributes:
      contender: a name in `contenders.ALL`.
      num_groups: number of groups.
      activation: a name that `layers.Layer` knows.
      dtype: of the output.
      scale_init: of the scale.
    """

    contender: str
    num_groups: int = 32
    activation: str = "none"
    dtype: Dtype = jnp.float32
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x of shape (N, *spatial, C)."""
        scale = self.param("scale", self.scale_init, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        layer = layers.Layer(
            "", "", "", x.shape, self.num_groups, self.activation, source=""
        )
        norm = contenders.ALL[self.contender].norm(layer)
        return norm(x.astype(self.dtype), scale, bias)


class UNetBlock(nn.Module):
    """The residual block of a diffusion U-Net: norm, SiLU and convolution, twice.

    The embedding of the time step shifts the channels in between. Source: Dhariwal &
    Nichol, "Diffusion Models Beat GANs on Image Synthesis" (2021), section 3; the
    widths are those of Stable Diffusion 1.5 at its largest resolution.
    """

    norm: Callable[..., nn.Module]
    dtype: Dtype

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, jax.Array]) -> jax.Array:
        """Maps x (N, H, W, C) and the embedding (N, E) to x's shape."""
        x, embedding = inputs
        conv = functools.partial(nn.Conv, x.shape[-1], (3, 3), dtype=self.dtype)
        norm = functools.partial(self.norm, activation="silu", dtype=self.dtype)
        y = conv(name="conv1")(norm(name="norm1")(x.astype(self.dtype)))
        shift = nn.Dense(x.shape[-1], dtype=self.dtype)(nn.silu(embedding))
        y = norm(name="norm2")(y + shift[:, None, None])
        return x.astype(self.dtype) + conv(name="conv2")(y)


def _resnet50(norm, dtype):
    """Images of 224 x 224, two of them: the paper's smallest batch."""
    model = models.resnet50(norm=norm, dtype=dtype)
    images = jax.random.normal(jax.random.key(0), (2, 224, 224, 3))
    labels = jnp.array([1, 2])

    def loss(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return model, images, loss


def _unet_block(norm, dtype):
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, 64, 64, 320))
    embedding = jax.random.normal(keys[1], (2, 1280))

    def loss(y):
        return jnp.mean(jnp.square(y.astype(jnp.float32)))

    return UNetBlock(norm=norm, dtype=dtype), (x, embedding), loss


NETWORKS = {
    "ResNet-50, batch 2": _resnet50,
    "diffusion U-Net block, batch 2": _unet_block,
}


def case(
    network: str, dtype: str, names: Sequence[str], *, seconds: float
) -> list[StepResult]:
    """Measures one network with every contender, side by side.

    Args:
      network: a name in `NETWORKS`.
      dtype: a name in `measure.DTYPES`.
      names: contenders; the floors are left out but for "scale and shift", a norm
        that knows its statistics.
      seconds: time to spend on rounds.
    """
    timer = timing.timer()
    runs: dict[str, timing.Run] = {}
    results: dict[str, StepResult] = {}
    for name in _layers_among(names):
        result = StepResult(network, name, dtype)
        try:
            step, arguments = _step(network, name, dtype)
            began = time.perf_counter()
            compiled = jax.jit(step).lower(*arguments).compile()
            result = dataclasses.replace(
                result,
                compile_seconds=time.perf_counter() - began,
                temporaries=program.read(compiled).temporaries,
                kept=_kept(network, name, dtype, arguments),
            )
            jax.block_until_ready(compiled(*arguments))
            runs[name] = timer(compiled, arguments)
        except Exception as error:  # noqa: BLE001  A contender's failure is its result.
            result = measure.failed(result, error)
        results[name] = result
    times = timing.run_rounds(runs, seconds=seconds, least=5)
    linen = times.get("flax.linen")
    for name, own in times.items():
        results[name] = dataclasses.replace(
            results[name],
            seconds=own.median,
            rounds=len(own.seconds),
            times_linen=own.times_faster_than(linen) if linen else None,
        )
    return list(results.values())


def _layers_among(names: Sequence[str]) -> Iterator[str]:
    for contender in contenders.named(names):
        if contender.floor_step is None or contender.name == "scale and shift":
            yield contender.name


def _forward(network: str, name: str, dtype: str):
    norm = functools.partial(SwappedNorm, name)
    model, inputs, loss = NETWORKS[network](norm, measure.DTYPES[dtype])

    def forward(params, inputs):
        return loss(model.apply({"params": params}, inputs))

    return model, inputs, forward


def _step(network: str, name: str, dtype: str):
    model, inputs, forward = _forward(network, name, dtype)
    params = jax.jit(model.init)(jax.random.key(1), inputs)["params"]
    return jax.value_and_grad(forward), (params, inputs)


def _kept(network: str, name: str, dtype: str, arguments) -> int:
    """Bytes of all that the backward pass takes over but the parameters themselves."""
    params, inputs = arguments
    _, _, forward = _forward(network, name, dtype)
    _, vjp = jax.eval_shape(lambda p: jax.vjp(lambda p: forward(p, inputs), p), params)
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(vjp))
    return total - sum(leaf.nbytes for leaf in jax.tree.leaves(params))
