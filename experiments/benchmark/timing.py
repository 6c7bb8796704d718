"""Side-by-side timing: every contender once per round, round after round.

Machines are shared and noisy, so a time alone says little. Contenders that run within
milliseconds of each other see the same machine, and ratios are taken within a round.
"""

import dataclasses
import functools
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

# Bytes; an H200 has 60 MB.
_MORE_THAN_ANY_CACHE = 256 * 2**20

Run = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds per run, one for each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds)

    def times_faster_than(self, other: "Times") -> float:
        """The median over rounds of the other's time over this one's."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return statistics.median(theirs / own for own, theirs in pairs)


def run_rounds(
    runs: Mapping[str, Run], *, seconds: float, least: int = 7, most: int = 60
) -> dict[str, Times]:
    """Runs every contender once per round until the time is spent.

    Every round has an order of its own, so that none always follows the same other.

    Args:
      runs: functions that run once and return the seconds it took.
      seconds: time to spend.
      least: rounds to run however long they take.
      most: rounds after which to stop.
    """
    names = list(runs)
    taken: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(0)
    began = time.perf_counter()
    for number in range(most):
        if number >= least and time.perf_counter() - began > seconds:
            break
        for name in order.sample(names, len(names)):
            taken[name].append(runs[name]())
    return {name: Times(tuple(values)) for name, values in taken.items()}


def on_host(compiled: Callable[..., Any], arguments: tuple[Any, ...]) -> Run:
    """A run timed by the host's clock, from the call until the output is there.

    It runs once before that: the threads of the contender before still wait for work
    for a while and its own have gone to sleep. A norm that always came after torch
    looked 1.4 times slower, and torch on small layers 20 times.
    """

    def run() -> float:
        jax.block_until_ready(compiled(*arguments))
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        return time.perf_counter() - began

    return run


def on_device(compiled: Callable[..., Any], arguments: tuple[Any, ...]) -> Run:
    """A run timed by the profiler: the seconds the device itself was busy.

    The host's clock would add the launch, which a training step hides. Before the run
    something else is read that fills the device's cache, so that every array comes from
    main memory, as what was computed some layers ago does in training.
    """

    def run() -> float:
        _fill_cache()
        with tempfile.TemporaryDirectory() as folder:
            with jax.profiler.trace(folder, profiler_options=_device_alone()):
                jax.block_until_ready(compiled(*arguments))
            return busy_seconds(pathlib.Path(folder))

    return run


def _fill_cache() -> None:
    read, array = _cache_filler()
    jax.block_until_ready(read(array))


@functools.cache
def _cache_filler() -> tuple[Callable[..., Any], jax.Array]:
    """Reads, and does not write: what it wrote would be written back during the run."""
    array = jnp.ones(_MORE_THAN_ANY_CACHE // 4, jnp.float32)
    return jax.jit(jnp.sum), array


def _device_alone() -> jax.profiler.ProfileOptions:
    """Without Python's calls, which take longer to write down than the run."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    options.host_tracer_level = 1
    return options


def busy_seconds(folder: pathlib.Path) -> float:
    """Time in which at least one event ran on a device, from a profiler's trace.

    Raises:
      RuntimeError: the trace holds no device events.
    """
    (file,) = folder.rglob("*.xplane.pb")
    data = jax.profiler.ProfileData.from_file(str(file))
    spans = [
        (event.start_ns, event.start_ns + event.duration_ns)
        for plane in data.planes
        if plane.name.startswith("/device:")
        for line in plane.lines
        if line.name.startswith("Stream") or line.name == "XLA Ops"
        for event in line.events
    ]
    if not spans:
        raise RuntimeError(
            "the profiler's trace has no device events; expected planes named "
            "/device:* with lines Stream* or XLA Ops, got "
            f"{[plane.name for plane in data.planes]}"
        )
    busy, end = 0.0, 0.0
    for start, stop in sorted(spans):
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy / 1e9


def timer() -> Callable[[Callable[..., Any], tuple[Any, ...]], Run]:
    """By the profiler where the default device is an accelerator, else by the host."""
    return on_host if jax.default_backend() == "cpu" else on_device
