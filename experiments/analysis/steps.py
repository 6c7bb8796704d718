"""Where the time and the memory of a training step go with each norm."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from experiments.benchmark import program, timing
from experiments.lab import Record
from experiments.small_batch import recipe
from experiments.training import Classification
from experiments.training.classification import Batch

NORMS = ("none", "bn", "gn", "ln", "in")


def measure(
    dataset: Any, batches: Sequence[int], widths: Sequence[int], seconds: float
) -> list[Record]:
    """A row per width, batch and norm; norms are timed side by side.

    A step is the loss and its gradients on one device; the optimizer's update is left
    out, being the same for all.

    Args:
      dataset: images to run on.
      batches: examples in a step.
      widths: channels of the stem.
      seconds: to spend on the rounds of each comparison.
    """
    return [
        row
        for width in widths
        for batch in batches
        for row in _compare(dataset, batch, width, seconds)
    ]


def _compare(dataset: Any, batch: int, width: int, seconds: float) -> list[Record]:
    timer = timing.timer()
    runs: dict[str, timing.Run] = {}
    rows = {}
    for norm in NORMS:
        forward, both, arguments = _functions(dataset, norm, batch, width)
        for part, function in (("forward", forward), ("step", both)):
            compiled = jax.jit(function).lower(*arguments).compile()
            runs[f"{part} {norm}"] = timer(compiled, arguments)
        rows[norm] = {
            "norm": norm,
            "batch": batch,
            "width": width,
            "temporaries": program.read(compiled).temporaries,
            "kept": _kept(forward, arguments),
        }
    times = timing.run_rounds(runs, seconds=seconds, least=5)
    bare = times["step none"]
    for norm, row in rows.items():
        step = times[f"step {norm}"]
        row["forward_ms"] = 1e3 * times[f"forward {norm}"].median
        row["step_ms"] = 1e3 * step.median
        row["times_none"] = bare.times_faster_than(step)
        row["rounds"] = len(step.seconds)
    return list(rows.values())


def _functions(
    dataset: Any, norm: str, batch: int, width: int
) -> tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]:
    """The loss, the loss with its gradients, and what to call them with."""
    network = functools.partial(recipe.shallow, width=width)
    task = Classification(dataset, network, norm)
    params, stats = task.init(0)
    chosen = Batch(dataset.train_images[:batch], dataset.train_labels[:batch])

    def forward(params: Any, stats: Any, batch: Batch) -> Any:
        return task.loss(params, stats, batch)

    return (
        forward,
        jax.value_and_grad(forward, has_aux=True),
        (params, stats, jax.device_put(chosen)),
    )


def _kept(forward: Callable[..., Any], arguments: tuple[Any, ...]) -> int:
    """Bytes kept from the forward for the backward pass, weights included."""
    params, stats, batch = arguments

    def residuals(params: Any) -> Any:
        return jax.vjp(lambda p: forward(p, stats, batch)[0], params)[1]

    leaves = jax.tree.leaves(jax.eval_shape(residuals, params))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
