"""What tasks have in common: a network with a norm, initialised and called."""

import abc
import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from experiments.training import patches
from experiments.training.norms import NORMS

Tree = Any


class Networked(abc.ABC):
    """The part of a task that makes its network and calls it.

    Attributes:
      network: makes the network, from ``norm``, ``conv`` and `settings`.
      norm: a name of `NORMS`.
      conv: makes the network's convolutions, as `flax.linen.Conv` does.
    """

    network: Callable[..., nn.Module]
    norm: str
    conv: Callable[..., nn.Module] = nn.Conv

    @property
    @abc.abstractmethod
    def example(self) -> jax.Array:
        """What the network is initialised on: one example, of any values."""

    @property
    def settings(self) -> dict[str, Any]:
        """What ``network`` takes beside the norm and the convolution."""
        return {}

    def init(self, seed: int) -> tuple[Tree, Tree]:
        """Initial parameters and running averages."""
        # The default generator takes ten times longer to compile than this one.
        variables = self._init(jax.random.key(seed, impl="rbg"))
        return variables["params"], variables.get("batch_stats", {})

    def trained(self, params: Tree, stats: Tree, x: jax.Array) -> tuple[Any, Tree]:
        """What the network says in training, and its new running averages."""
        outputs, state = self.model(training=True).apply(
            {"params": params, "batch_stats": stats}, x, mutable=["batch_stats"]
        )
        return outputs, state.get("batch_stats", {})

    def tested(self, params: Tree, stats: Tree, x: jax.Array) -> Any:
        """What the network says by its running averages."""
        return self.model(training=False).apply(
            {"params": params, "batch_stats": stats}, x
        )

    def model(self, *, training: bool) -> nn.Module:
        """The network, for training or for use."""
        on_cpu = jax.default_backend() == "cpu"
        return self.network(
            norm=NORMS[self.norm](training),
            conv=functools.partial(
                self.conv, conv_general_dilated=patches.conv if on_cpu else None
            ),
            **self.settings,
        )

    @functools.cached_property
    def _init(self) -> Callable[[jax.Array], dict[str, Any]]:
        """Compiled once for all seeds."""
        model = self.model(training=True)
        return jax.jit(lambda key: model.init(key, self.example))
