"""The real training step, compiled for devices that are not there."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax

from experiments.benchmark import program as hlo
from experiments.benchmark import targets
from experiments.imagenet.config import Config
from experiments.imagenet.program import Program, mesh

# Bytes of main memory of a compile-only device that a program may use. For a TPU the
# compiler refuses a larger program by itself. For an H100 it does not: there it is the
# part of its 79 GiB that jax reserves unless told otherwise.
USABLE = {"h100": int(0.75 * 84942979072)}


@dataclasses.dataclass(frozen=True)
class Made:
    """What the compiler made of a step. Bytes are of one device.

    Attributes:
      devices: how many the step is split over.
      batch: examples on each.
      arguments: bytes of the state and of the batch.
      temporaries: bytes of activations and other scratch memory.
      results: bytes of what the step returns beyond the state, which stays in place.
      code: bytes of the program itself.
      moved: bytes read from and written to main memory in a step.
      collectives: kind, how many, and bytes that each device receives, per step.
      seconds: that compiling took.
    """

    devices: int
    batch: int
    arguments: int
    temporaries: int
    results: int
    code: int
    moved: int
    collectives: Sequence[tuple[str, int, int]]
    seconds: float

    @property
    def memory(self) -> int:
        """Bytes that the step needs on each device."""
        return self.arguments + self.temporaries + self.results + self.code


def target(topology: str) -> str:
    """The name in `targets.TARGETS` of a topology such as "v5e:16x16" or "h100".

    Raises:
      ValueError: it names no target.

    Example:
      >>> target("v5e:16x16"), target("tpu7x:2x2x1")
      ('v5e', '7x')
    """
    name = topology.partition(":")[0].removeprefix("tpu")
    if name not in targets.TARGETS:
        raise ValueError(
            f"expected a topology of {', '.join(targets.TARGETS)}, such as v5e:16x16 "
            f"or h100; got {topology!r}"
        )
    return name


def devices(topology: str) -> Sequence[Any]:
    """The compile-only devices of a topology.

    Raises:
      ValueError: there is no such topology.
      RuntimeError: the wheel with the compiler is missing.
    """
    name = target(topology)
    try:
        return targets.devices(name, topology)
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(
            f"the compiler knows no topology {topology}: "
            f"{str(error).splitlines()[0]}; another one is "
            f"{targets.TARGETS[name].topology}"
        ) from error


def make(config: Config, topology: str, batch: int, classes: int) -> Made | None:
    """Compiles the training step of a config.

    Args:
      config: the run, but for its batch.
      topology: as in `devices`.
      batch: examples on each device.
      classes: of the data.

    Returns:
      What was made, or None where the device's memory is too small for it.

    Raises:
      ValueError, RuntimeError: as in `devices`, or the batch cannot be cut as asked.
      jax.errors.JaxRuntimeError: the compiler refused it for another reason.
    """
    on = mesh(devices(topology))
    config = dataclasses.replace(config, batch=batch * on.size)
    step = Program(config, classes, epoch_steps=1, mesh=on)
    began = time.monotonic()
    lowered = step.train.lower(step.abstract(), *step.abstract_batch())
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return None
        raise
    seconds = time.monotonic() - began
    read, memory = hlo.read(compiled), compiled.memory_analysis()
    assert memory is not None  # the backends above have one
    made = Made(
        devices=on.size,
        batch=batch,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        moved=read.moved,
        collectives=_summed(read),
        seconds=round(seconds, 1),
    )
    usable = USABLE.get(target(topology))
    return None if usable is not None and made.memory > usable else made


def _summed(read: hlo.Program) -> list[tuple[str, int, int]]:
    kinds = read.collective_counts()
    return [
        (kind, count, sum(c.bytes for c in read.collectives if c.kind == kind))
        for kind, count in sorted(kinds.items())
    ]
