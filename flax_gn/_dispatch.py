"""Which implementation runs, and why."""

import importlib
from typing import Any

import jax

from flax_gn import _faster, _xla
from flax_gn._problem import Operands, Problem
from flax_gn._versions import of_jax
from flax_gn._words import said

# What is not the default is imported when it is asked for: kernels bring the compilers
# of their platforms' language with them.
_IMPLEMENTATIONS = {
    "pallas_gpu": "flax_gn._pallas.gpu",
    "pallas_tpu": "flax_gn._pallas.tpu",
    "reference": "flax_gn._reference",
    "xla": "flax_gn._xla",
}


def group_norm(
    implementation: str | None, problem: Problem, operands: Operands
) -> jax.Array:
    """`flax_gn.group_norm` by an implementation, or by the one that is picked.

    XLA is, but where kernels are known to be faster; see `_faster`.

    Raises:
      ValueError: there is no implementation of that name.
      NotImplementedError: it does not take this call.
    """
    if implementation is None:
        faster = _faster.implementations(operands.x)
        if faster:
            kernels = tuple(resolve(name).KERNELS for name in faster)
            op = importlib.import_module("flax_gn._pallas._op")
            return op.group_norm_where_faster(kernels, problem, operands)
    return resolve(implementation).group_norm(problem, operands)


def resolve(implementation: str | None) -> Any:
    """The module behind a name; that of XLA behind None.

    Raises:
      ValueError: there is no implementation of that name.
      NotImplementedError: this jax is too old for it.
    """
    if implementation is None:
        return _xla
    if implementation not in tuple(_IMPLEMENTATIONS):
        raise ValueError(
            said(
                "`implementation` must be None (pick for me) or one of "
                f"{sorted(_IMPLEMENTATIONS)}; got {implementation!r}."
            )
        )
    if implementation.startswith("pallas") and not of_jax.has_kernels():
        needed = ".".join(map(str, of_jax.KERNELS))
        raise NotImplementedError(
            said(
                f'`implementation`="{implementation}" needs jax {needed}; this is jax '
                f'{jax.__version__}. Leave `implementation` out, or pass "xla", which '
                "runs everywhere."
            )
        )
    return importlib.import_module(_IMPLEMENTATIONS[implementation])
