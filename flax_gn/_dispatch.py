"""Which implementation runs, and why."""

import importlib
from types import ModuleType

from flax_gn import _xla

# What is not the default is imported when it is asked for: kernels bring the compilers
# of their platforms' language with them.
_IMPLEMENTATIONS = {
    "pallas_gpu": "flax_gn._pallas.gpu",
    "pallas_tpu": "flax_gn._pallas.tpu",
    "reference": "flax_gn._reference",
    "xla": "flax_gn._xla",
}


def resolve(implementation: str | None) -> ModuleType:
    """The module behind a name. None picks for the caller: XLA on every platform.

    Raises:
      ValueError: there is no implementation of that name.
    """
    if implementation is None:
        return _xla
    if implementation not in tuple(_IMPLEMENTATIONS):
        raise ValueError(
            "group_norm: implementation must be None (pick for me) or one of "
            f"{sorted(_IMPLEMENTATIONS)}; got {implementation!r}."
        )
    return importlib.import_module(_IMPLEMENTATIONS[implementation])
