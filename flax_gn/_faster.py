"""Where kernels are known to be faster than XLA, by records that are committed.

None is: on an H100 they are slower in every step, if not in every forward pass
(experiments/benchmark/results/h100.json), and on a TPU they have not run. It takes a
record of `python -m experiments.benchmark`, and an entry for what the record shows.
Which platform a program is for is found out when it is lowered.
"""

import dataclasses

import jax


@dataclasses.dataclass(frozen=True)
class Faster:
    """What a record shows.

    Attributes:
      implementation: the name of the kernels.
      dtype: of x.
      least: bytes of x, on a device, from which on they are faster.
      most: up to which they are.
      record: the file with the measurements, from the top of the repository.
    """

    implementation: str
    dtype: str
    least: int
    most: int
    record: str

    def holds(self, x: jax.Array) -> bool:
        """Whether the record speaks of such an array."""
        size = x.size * x.dtype.itemsize
        return x.dtype == self.dtype and self.least <= size <= self.most


FASTER: tuple[Faster, ...] = ()


def implementations(x: jax.Array) -> tuple[str, ...]:
    """The names of the kernels that are faster for x on their platforms."""
    return tuple(dict.fromkeys(f.implementation for f in FASTER if f.holds(x)))
