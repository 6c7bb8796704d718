r"""Would a residual argument gain anything over adding the residual outside?

    JAX_PLATFORMS=cpu python -m experiments.decisions.residual \
        > experiments/decisions/residual.md

compiles, for each target, a norm alone, and with a residual added before or after it,
plainly and under `jax.checkpoint`. It prints bytes moved, and kept for the backward
pass, over the bytes of x as it lies in the device's memory. An argument, too, would
have to read the residual once and write its gradient once, and where the sum is handed
on, as before a norm, to write that. Takes two minutes.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import flax_gn
from experiments import records
from experiments.benchmark import layers, program, targets

HEAD = (
    "target",
    "layer",
    "what",
    "moved forward",
    "moved in a training step",
    "kept for the backward pass",
)


def variants(layer: layers.Layer) -> dict[str, Callable[..., Any]]:
    """Functions of x, the residual, gamma and beta."""

    def activate(y):
        return y if layer.activation is None else layer.activation(y)

    def norm(x, gamma, beta):
        return flax_gn.group_norm(x, gamma, beta, layer.groups)

    def alone(x, r, gamma, beta):
        del r
        return flax_gn.group_norm(
            x, gamma, beta, layer.groups, activation=layer.activation
        )

    def after(x, r, gamma, beta):
        return activate(norm(x, gamma, beta) + r)

    def before(x, r, gamma, beta):
        total = x + r  # a pre-activation block hands it to the next one too
        return total, alone(total, None, gamma, beta)

    return {
        "norm alone": alone,
        "add after it": after,
        "add after it, jax.checkpoint": jax.checkpoint(after),
        "add before it": before,
        "add before it, jax.checkpoint": jax.checkpoint(before),
    }


def measure(run: Callable[..., Any], layer: layers.Layer, device: Any) -> list[str]:
    """Bytes moved forward, moved in a step, and kept, over the bytes of x."""
    x = jax.ShapeDtypeStruct(layer.shape, jnp.bfloat16)
    gamma = jax.ShapeDtypeStruct(layer.shape[-1:], jnp.float32)
    arguments = targets.on(device, (x, x, gamma, gamma))
    out = targets.on(device, jax.eval_shape(run, *arguments))

    def step(cotangent, *arguments):
        out, vjp = jax.vjp(run, *arguments)
        return out, vjp(cotangent)

    def compiled(f, *arguments):
        return program.read(jax.jit(f).lower(*arguments).compile())

    in_memory = compiled(jnp.copy, arguments[0]).outputs
    _, vjp = jax.eval_shape(lambda *a: jax.vjp(run, *a), *arguments)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(vjp))
    ratios = (
        compiled(run, *arguments).moved / in_memory,
        compiled(step, out, *arguments).moved / in_memory,
        kept / (x.size * x.dtype.itemsize),
    )
    return [f"{ratio:.2f}" for ratio in ratios]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--target", nargs="+", default=["h100", "v5e"])
    parser.add_argument("--layers", nargs="+", default=["r50_b1_gn2", "sd15_64_320"])
    args = parser.parse_args()
    print("|", " | ".join(HEAD), "|")
    print("|---|---|---|---:|---:|---:|")
    for target in args.target:
        device = targets.devices(target)[0]
        for layer in (layers.load()[name] for name in args.layers):
            for what, run in variants(layer).items():
                cells = [target, layer.id, what, *measure(run, layer, device)]
                print("|", " | ".join(cells), "|", flush=True)
    stamp = records.stamp()
    print(
        f"\n{stamp['date']}, commit {stamp['commit']}, jax {jax.__version__}, "
        f"{stamp['processor']}; bfloat16, bytes over the bytes of x."
    )


if __name__ == "__main__":
    main()
