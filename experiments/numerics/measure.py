"""The errors of every peer in every case."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark import contenders
from experiments.numerics import float64, peers
from experiments.numerics.cases import Case


@dataclasses.dataclass(frozen=True)
class Result:
    """Relative errors of one peer in one case.

    Attributes:
      peer: a name in `peers.NAMES` or `peers.TORCH`.
      dtype: as the case's.
      values: in a group.
      mean: as the case's.
      outlier: as the case's.
      y: error of the output; None if it has values that are not finite.
      dx: error of the gradient of x, likewise, or None where it is not measured.
      dgamma: error of the gradient of gamma, likewise.
      failed: what the peer raised, or which of its results are not finite.
    """

    peer: str
    dtype: str
    values: int
    mean: float
    outlier: str | None
    y: float | None = None
    dx: float | None = None
    dgamma: float | None = None
    failed: str | None = None


def relative(actual: Any, exact: np.ndarray, least: float = 0.0) -> float | None:
    """The largest deviation over the largest exact value, or over ``least`` if more.

    >>> relative([1.0, 2.5], np.array([1.0, 2.0]))
    0.25

    Returns:
      None if ``actual`` has a value that is not finite.
    """
    actual = np.asarray(actual).astype(np.float64)
    if not np.isfinite(actual).all():
        return None
    return float(np.abs(actual - exact).max() / max(np.abs(exact).max(), least))


def run(
    cases: Iterable[Case], names: Sequence[str], torch: peers.Torch | None
) -> Iterator[list[Result]]:
    """The results of one case after another.

    Cases of one shape and dtype should follow each other: they share a program.
    """
    chosen = contenders.named(names)
    programs: dict[str, Callable[..., Any]] = {}
    prepared = None
    for case in cases:
        kind = case.dtype, case.shape, case.gradients
        if kind != prepared:
            programs = {c.name: _program(c, case) for c in chosen}
            prepared = kind
        x, dy = case.arrays()
        exact = float64.group_norm(x, case.groups, peers.EPSILON, dy)
        results = [
            _result(name, case, exact, program, x, dy)
            for name, program in programs.items()
        ]
        if torch is not None:
            results += [
                _result(name, case, exact, _torch(torch, name, case), x, dy)
                for name in peers.TORCH
            ]
        yield results


def _program(contender: contenders.Contender, case: Case) -> Callable[..., Any]:
    """A compiled function of x and dy that gives y, dx and dgamma as far as wanted."""
    layer = peers.layer(case)
    scale, shift = jnp.ones(case.shape[-1]), jnp.zeros(case.shape[-1])
    if case.gradients and contender.name in peers.WITH_GRADIENTS:
        step = jax.jit(contender.step(layer))

        def both(x, dy):
            y, (dx, dgamma, _) = step(x, scale, shift, dy)
            return y, dx, dgamma

        return both
    norm = jax.jit(contender.norm(layer))
    return lambda x, _: (norm(x, scale, shift),)


def _torch(torch: peers.Torch, name: str, case: Case) -> Callable[..., Any]:
    return lambda x, _: (torch.normalise(name, case, x),)


def _result(
    peer: str,
    case: Case,
    exact: float64.Exact,
    program: Callable[..., Any],
    x: np.ndarray,
    dy: np.ndarray | None,
) -> Result:
    result = Result(peer, case.dtype, case.values, case.mean, case.outlier)
    try:
        actual = dict(zip(("y", "dx", "dgamma"), program(x, dy), strict=False))
    except Exception as error:  # noqa: BLE001  A peer's failure is its result.
        message = f"{type(error).__name__}: {error}"[:400]
        return dataclasses.replace(result, failed=message)
    # Values that differ from their mean by less than the dtype resolves are constant
    # once rounded, and y and dgamma exactly 0; then the error is absolute.
    errors = {
        name: relative(value, getattr(exact, name), least=0.0 if name == "dx" else 1.0)
        for name, value in actual.items()
    }
    strange = [name for name, error in errors.items() if error is None]
    failed = f"{', '.join(strange)} not finite" if strange else None
    return dataclasses.replace(result, **errors, failed=failed)
