"""Which implementation runs, and why."""

from types import ModuleType

from flax_gn import _reference, _xla

_IMPLEMENTATIONS: dict[str, ModuleType] = {"reference": _reference, "xla": _xla}


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
    return _IMPLEMENTATIONS[implementation]
