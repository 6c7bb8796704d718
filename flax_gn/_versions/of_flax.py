"""What differs between versions of Flax."""

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flax import nnx
from flax.nnx.nn import dtypes

from flax_gn._words import said

if TYPE_CHECKING or hasattr(nnx, "InstanceNorm"):
    from flax.nnx import InstanceNorm
else:

    class InstanceNorm(nnx.Module):
        """Flax 0.12.0 has one to drop in for, and lets this go."""

        def __init__(self, num_features: int, **options: Any):
            del num_features, options
            raise NotImplementedError(
                said(
                    "`flax.nnx` has an InstanceNorm from flax 0.12.0 on. Update flax, "
                    "or take GroupNorm with group_size=1, which is the same norm."
                )
            )


def _takes(function: Any, name: str) -> bool:
    return name in inspect.signature(function).parameters


def metadata(
    bias_metadata: Mapping[str, Any], scale_metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of these names, for Flax's group norm.

    flax 0.12.1 takes them, and lets this go.
    """
    if _takes(nnx.GroupNorm.__init__, "bias_metadata"):
        return {"bias_metadata": bias_metadata, "scale_metadata": scale_metadata}
    if bias_metadata or scale_metadata:
        raise NotImplementedError(
            said(
                "`bias_metadata` and `scale_metadata` need flax 0.12.1. Update flax, "
                "or leave them out and set the metadata of the layer's variables."
            )
        )
    return {}


def promote_dtype(layer: Any) -> Any:
    """That of a layer of Flax's. Those of flax 0.12.1 have one; that lets this go."""
    return getattr(layer, "promote_dtype", dtypes.promote_dtype)


def out_sharding(sharding: Any) -> dict[str, Any]:
    """The argument of this name, for a call of Flax's convolution.

    flax 0.12.3 takes it, and lets this go.
    """
    if sharding is None:
        return {}
    if _takes(nnx.Conv.__call__, "out_sharding"):
        return {"out_sharding": sharding}
    raise NotImplementedError(
        said(
            "`out_sharding` needs flax 0.12.3. Update flax, or reshard the result with "
            "jax.sharding.reshard."
        )
    )


def modules(model: nnx.Module) -> Iterator[nnx.Module]:
    """All modules of a model's state, each once.

    flax 0.12.5 has `nnx.iter_modules` for graphs, and lets this go.
    """
    if hasattr(nnx, "iter_modules") and _takes(nnx.iter_modules, "graph"):
        found = nnx.iter_modules(model, graph=True)
    else:
        found = model.iter_modules()
    return (module for _, module in found)
