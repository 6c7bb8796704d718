"""One case of the benchmark: a layer, a dtype and a mode, all contenders."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import contenders, layers, program, timing
from experiments.benchmark.torch_contenders import Torch

T = TypeVar("T", bound=Any)

MODES = ("forward", "step")
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

# Arrays of x's size that must be read or written: x and y; then x, dy and dx.
MUST_MOVE = {"forward": 2, "step": 2 + 3}
# The arrays alive at once in the contender that needs most, in float32.
_ARRAYS_ALIVE = {"forward": 4, "step": 8}


@dataclasses.dataclass(frozen=True)
class Result:
    """What one contender took for one case.

    Attributes:
      contender: its name.
      layer: the layer's id.
      dtype: of x and dy.
      mode: "forward", or "step" for forward and backward in one program.
      activation: the layer's, or "none".
      compile_seconds: to compile; for torch, the first call.
      seconds: median over rounds.
      rounds: how many rounds.
      times_linen: how many times faster than flax.linen, paired within rounds.
      times_xla: how many times slower than flax_gn, paired within rounds.
      share_of_copy: bytes that must move per second, over the copy's own.
      moved: bytes the compiled program moves, over the bytes of x.
      temporaries: scratch bytes of the compiled program, over the bytes of x.
      kept: bytes kept for the backward pass, over the bytes of x.
      error: why there is no time.
    """

    contender: str
    layer: str
    dtype: str
    mode: str
    activation: str
    compile_seconds: float | None = None
    seconds: float | None = None
    rounds: int | None = None
    times_linen: float | None = None
    times_xla: float | None = None
    share_of_copy: float | None = None
    moved: float | None = None
    temporaries: float | None = None
    kept: float | None = None
    error: str | None = None


def needed_bytes(layer: layers.Layer, mode: str) -> int:
    """Memory a case needs, roughly, with every array in float32."""
    return 4 * int(np.prod(layer.shape)) * _ARRAYS_ALIVE[mode]


def case(
    layer: layers.Layer,
    dtype: str,
    mode: str,
    chosen: Sequence[contenders.Contender],
    *,
    seconds: float,
    torch: Torch | None = None,
    torch_names: Sequence[str] = (),
    alone: AbstractContextManager[Any] | None = None,
) -> list[Result]:
    """Measures all contenders side by side.

    Args:
      layer: shape, groups and activation.
      dtype: of x and dy; gamma and beta are float32.
      mode: "forward" or "step".
      chosen: those to run in this process.
      seconds: time to spend on rounds.
      torch: the worker for ``torch_names``.
      torch_names: variants of torch to interleave.
      alone: held while anything runs, where other processes have the device too.
    """
    draw = _inputs(layer, dtype, mode)
    shapes = jax.eval_shape(draw)
    draw = jax.jit(draw).lower().compile()
    programs: dict[str, Callable[..., Any]] = {}
    results: dict[str, Result] = {}
    for contender in chosen:
        result = Result(contender.name, layer.id, dtype, mode, layer.activation_name)
        try:
            programs[contender.name], result = _compile(
                contender, layer, mode, shapes, result
            )
        except Exception as error:  # noqa: BLE001  A contender's failure is its result.
            result = failed(result, error)
        results[contender.name] = result
    others: dict[str, timing.Run] = {}
    for name in torch_names:
        assert torch is not None
        answer = torch.prepare(name, layer, dtype, mode)
        results[name] = Result(
            name,
            layer.id,
            dtype,
            mode,
            layer.activation_name,
            compile_seconds=answer.get("seconds"),
            error=answer.get("error"),
        )
        if "error" not in answer:
            others[name] = functools.partial(torch.run, name)
    timer = timing.timer()
    runs: dict[str, timing.Run] = {}
    with alone or contextlib.nullcontext():
        arguments = draw()
        own = {name: timer(run, arguments) for name, run in programs.items()}
        for name, run in (own | others).items():
            try:
                run()
                runs[name] = run
            except Exception as error:  # noqa: BLE001  Likewise.
                results[name] = failed(results[name], error)
        times = timing.run_rounds(runs, seconds=seconds)
        if torch is not None:
            torch.forget()
    return [
        _timed(result, times) if result.contender in times else result
        for result in results.values()
    ]


def inputs(layer: layers.Layer, dtype: str, mode: str) -> tuple[jax.Array, ...]:
    """x, gamma and beta, and for a step dy."""
    return jax.jit(_inputs(layer, dtype, mode))()


def _inputs(layer, dtype, mode):
    def draw():
        keys = jax.random.split(jax.random.key(0), 4)
        x, dy = (jax.random.normal(k, layer.shape).astype(dtype) for k in keys[:2])
        gamma, beta = (jax.random.normal(k, layer.shape[-1:]) for k in keys[2:])
        return (x, gamma, beta) if mode == "forward" else (x, gamma, beta, dy)

    return draw


def failed(result: T, error: Exception) -> T:
    """A result, of a layer or of a step, with the error in place of a time."""
    message = f"{type(error).__name__}: {error}"[:400]
    return dataclasses.replace(result, error=message)


def _compile(
    contender: contenders.Contender, layer, mode: str, shapes, result: Result
) -> tuple[Callable[..., Any], Result]:
    norm = contender.norm(layer)
    function = norm if mode == "forward" else contender.step(layer)
    began = time.perf_counter()
    compiled = jax.jit(function).lower(*shapes).compile()
    seconds = time.perf_counter() - began
    x_bytes = shapes[0].size * shapes[0].dtype.itemsize
    made = program.read(compiled)
    kept = None
    if contender.floor_step is None:
        _, vjp = jax.eval_shape(lambda *a: jax.vjp(norm, *a), *shapes[:3])
        kept = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(vjp)) / x_bytes
    return compiled, dataclasses.replace(
        result,
        compile_seconds=seconds,
        moved=made.moved / x_bytes,
        temporaries=made.temporaries / x_bytes,
        kept=kept,
    )


def _timed(result: Result, times: dict[str, timing.Times]) -> Result:
    own = times[result.contender]
    linen, xla, copy = (
        times.get(name) for name in ("flax.linen", "flax_gn xla", "copy")
    )
    return dataclasses.replace(
        result,
        seconds=own.median,
        rounds=len(own.seconds),
        times_linen=own.times_faster_than(linen) if linen else None,
        times_xla=1 / own.times_faster_than(xla) if xla else None,
        # The copy moves just what must move, so the shares of bandwidth compare as
        # the times do.
        share_of_copy=own.times_faster_than(copy) if copy else None,
    )
