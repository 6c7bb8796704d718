"""Running the kernels where there is no accelerator, for tests.

It is asked for, never fallen back to::

    with interpreted(Interpreter(pltpu.InterpretParams(detect_races=True))):
        group_norm(x, gamma, beta, 32, implementation="pallas_tpu")
"""

import dataclasses
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Interpreter:
    """What stands in for the accelerator.

    Attributes:
      params: Pallas' own parameters, such as `pltpu.InterpretParams`.
      vmem_bytes: the memory that the kernels think they have; None for that of the
        smallest chip.
    """

    params: Any
    vmem_bytes: int | None = None


interpreted = jax.make_user_context(default_value=None)
