"""What a program is lowered for: the platform, and whether XLA splits it over devices.

Both are known when a program is lowered and no earlier: it may be another machine's,
as with `jax.export` and compile-only devices, or one of several. So `call` puts one
operation into the traced program, which holds the plain form of a function, and traces
the function anew for its target when it is lowered. In between everybody may ask.
"""

import contextvars
import dataclasses
from collections.abc import Callable
from typing import Any

from jax.interpreters import mlir

# How jax names the platforms.
NAMES = {"cpu": "cpu", "cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}


@dataclasses.dataclass(frozen=True)
class Target:
    """What is known of where a program will run.

    Attributes:
      platform: "cpu", "gpu" or "tpu"; None in the plain form, right for all.
      split: whether XLA may split the program over devices.
    """

    platform: str | None = None
    split: bool = False


PLAIN = Target()

_target: contextvars.ContextVar[Target] = contextvars.ContextVar(
    "target", default=PLAIN
)


def target() -> Target:
    """The target of what is traced here."""
    return _target.get()


def aimed(at: Target, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced for a target."""

    def traced(*args):
        token = _target.set(at)
        try:
            return function(*args)
        finally:
            _target.reset(token)

    return traced


def of_lowering(platform: str | None, context: mlir.LoweringRuleContext) -> Target:
    """The target of a lowering rule.

    Args:
      platform: that the rule is registered for, as jax names it, or None.
      context: of the rule.
    """
    return Target(NAMES.get(platform or ""), xla_may_split_it(context))


def xla_may_split_it(context: mlir.LoweringRuleContext) -> bool:
    """Whether what is lowered here is part of a program for several devices.

    Code inside a shard_map over all axes of the mesh is not.
    """
    axes: Any = context.module_context.axis_context
    if hasattr(axes, "manual_axes"):  # in a shard_map
        return set(axes.mesh.axis_names) > axes.manual_axes
    return getattr(axes, "num_devices", 1) > 1
