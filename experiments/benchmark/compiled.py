"""What the real compilers make of the layers of the table, without the devices.

    JAX_PLATFORMS=cpu python -m experiments.benchmark.compiled --target h100 v5e \\
        --layers sd15_64_320 r50_b1_gn3 --norms xla flax.linen

prints, for the forward pass, the backward pass and both in one program: kernels, bytes
moved over the bytes of x, the largest intermediate array and the scratch memory over
the bytes of x, and whether an array of x's size is moved into another order. The
bytes that must move are 2|x| forward and 3|x| backward; with statistics over a group
too large to keep on chip, 3|x| and 5|x|.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import flax_gn
from experiments.benchmark import layers, program, targets

Norm = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def _ours(implementation: str) -> Callable[[layers.Layer], Norm]:
    def norm(layer):
        return lambda x, gamma, beta: flax_gn.group_norm(
            x,
            gamma,
            beta,
            layer.groups,
            activation=layer.activation,
            implementation=implementation,
        )

    return norm


def _linen(layer: layers.Layer) -> Norm:
    def norm(x, gamma, beta):
        module = nn.GroupNorm(layer.groups, epsilon=1e-5, dtype=x.dtype)
        y = module.apply({"params": {"scale": gamma, "bias": beta}}, x)
        return y if layer.activation is None else layer.activation(y)

    return norm


NORMS = {"xla": _ours("xla"), "reference": _ours("reference"), "flax.linen": _linen}
DTYPES = {"bfloat16": jnp.bfloat16, "float32": jnp.float32}


@dataclasses.dataclass(frozen=True)
class Passes:
    """The programs of one norm for one layer, and the bytes of x they work on."""

    x_bytes: int
    forward: program.Program
    backward: program.Program
    step: program.Program

    def items(self) -> Iterable[tuple[str, program.Program]]:
        """Each pass with its name."""
        names = ("forward", "backward", "step")
        return ((name, getattr(self, name)) for name in names)


def compile_passes(norm: Norm, layer: layers.Layer, dtype: Any, device: Any) -> Passes:
    """Compiles a norm's forward pass, backward pass, and both in one program.

    The backward pass is the vjp function alone: its arguments are dy and whatever the
    forward pass keeps for it. A training step compiles both together, which leaves the
    compiler more freedom, to the good and to the bad.

    Args:
      norm: a function of x, gamma and beta.
      layer: the layer whose shape to compile for; gamma and beta are float32.
      dtype: of x and dy.
      device: a compile-only device, or a real one.
    """
    x = jax.ShapeDtypeStruct(layer.shape, dtype)
    gamma = jax.ShapeDtypeStruct(layer.shape[-1:], jnp.float32)
    x, gamma = targets.on(device, (x, gamma))

    def forward(x, gamma, beta):
        return jax.vjp(norm, x, gamma, beta)

    def step(x, gamma, beta, dy):
        y, vjp = forward(x, gamma, beta)
        return y, vjp(dy)

    _, vjp = targets.on(device, jax.eval_shape(forward, x, gamma, gamma))
    passes = (
        (norm, (x, gamma, gamma)),
        (lambda vjp, dy: vjp(dy), (vjp, x)),
        (step, (x, gamma, gamma, x)),
    )
    programs = (
        program.read(jax.jit(run).lower(*arguments).compile())
        for run, arguments in passes
    )
    copy = jax.jit(jnp.copy).lower(x).compile()
    return Passes(program.read(copy).outputs, *programs)


_ROW = "{:16} {:17} {:8} {:10} {:8} {:>7} {:>8} {:>8} {:>7} {:>9} {:>7}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--target", nargs="+", default=["h100"], choices=targets.TARGETS
    )
    parser.add_argument("--layers", nargs="+", default=list(layers.load()))
    parser.add_argument("--norms", nargs="+", default=["xla"], choices=NORMS)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    head = "layer norm dtype pass kernels moved largest scratch relayout seconds"
    print(_ROW.format("target", *head.split()))
    for target in args.target:
        device = targets.devices(target)[0]
        for layer in (layers.load()[name] for name in args.layers):
            for dtype in args.dtypes:
                for norm in args.norms:
                    began = time.perf_counter()
                    passes = compile_passes(
                        NORMS[norm](layer), layer, DTYPES[dtype], device
                    )
                    seconds = time.perf_counter() - began
                    for name, made in passes.items():
                        print(
                            _ROW.format(
                                target,
                                layer.id,
                                norm,
                                dtype,
                                name,
                                len(made.kernels),
                                f"{made.moved / passes.x_bytes:.2f}",
                                f"{made.largest_intermediate / passes.x_bytes:.2f}",
                                f"{made.temporaries / passes.x_bytes:.2f}",
                                "yes" if 2 * made.relayout >= _size(layer) else "",
                                f"{seconds:.1f}",
                            ),
                            flush=True,
                        )


def _size(layer: layers.Layer) -> int:
    size = 1
    for dim in layer.shape:
        size *= dim
    return size


if __name__ == "__main__":
    main()
