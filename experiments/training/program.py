"""The compiled parts of a run: several training steps at once, and the evaluation."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments.training.config import Config
from experiments.training.norms import AXIS

Tree = Any


class State(NamedTuple):
    """All that a step changes."""

    params: Tree
    stats: Tree
    optimizer: Tree


class Task(Protocol):
    """What is trained. Batches are trees of arrays whose first axis counts examples."""

    def init(self, seed: int) -> tuple[Tree, Tree]:
        """Initial parameters, and running averages or an empty tree."""
        ...

    def loss(
        self, params: Tree, stats: Tree, batch: Tree
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """The loss to descend; new running averages, and sums over the examples."""
        ...

    def evaluate(self, params: Tree, stats: Tree, batch: Tree) -> dict[str, jax.Array]:
        """What `metrics` needs of one batch: sums, counts or predictions; compiled."""
        ...

    def training_batch(self, config: Config, epoch: int, start: int, n: int) -> Tree:
        """Examples ``start`` to ``start + n`` of an epoch."""
        ...

    def evaluation_batches(self, size: int) -> Iterator[Tree]:
        """The test set in batches of ``size`` examples, padded at the end."""
        ...

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """The numbers of the test set, from what `evaluate` gave for each batch."""
        ...


def per_example(
    outputs: Iterable[dict[str, np.ndarray]], examples: int
) -> dict[str, float]:
    """`Task.metrics` of a task whose `evaluate` gives sums over examples.

    >>> per_example([{"loss": np.array(3.0)}, {"loss": np.array(1.0)}], 8)
    {'loss': 0.5}
    """
    totals: dict[str, float] = {}
    for output in outputs:
        for name, value in output.items():
            totals[name] = totals.get(name, 0.0) + float(value)
    return {name: total / examples for name, total in totals.items()}


def optimizer(config: Config) -> optax.GradientTransformation:
    """Gradient descent with momentum, or Adam, as the config says."""
    if config.schedule == "cosine":
        scheduled = optax.cosine_decay_schedule(config.peak_rate, config.steps)
    else:
        drops = {round(part * config.steps): 0.1 for part in (0.3, 0.6, 0.9)}
        scheduled = optax.piecewise_constant_schedule(config.peak_rate, drops)
    warmup = max(1, round(config.warmup * config.steps))

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        return jnp.minimum(1.0, (step + 1) / warmup) * scheduled(step)

    if config.optimizer == "adam":
        return optax.adamw(rate, b1=config.momentum, weight_decay=config.weight_decay)
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(rate, momentum=config.momentum),
    )


class Program:
    """Trains and evaluates one task under one config but for its seed.

    It compiles once, at the first call, and serves every seed.
    """

    def __init__(self, task: Task, config: Config):
        self.task = task
        count = 1 if config.parallelism == "vmap" else config.devices
        self._devices = jax.devices()[:count]
        if len(self._devices) < count:
            raise ValueError(
                f"the config asks for {count} devices; there are {len(self._devices)}"
            )
        self._config = config
        self._optimizer = optimizer(config)
        self._mesh = jax.make_mesh(
            (count,),
            (AXIS,),
            axis_types=(AxisType.Auto,),
            devices=self._devices,
        )
        if config.parallelism == "pmap":
            self._train = jax.pmap(
                self._steps,
                axis_name=AXIS,
                in_axes=(None, 0),
                out_axes=None,
                devices=self._devices,
            )
        else:
            self._train = jax.jit(self._steps)
        self._evaluate = jax.jit(task.evaluate)

    def init(self, seed: int) -> State:
        """The state before the first step."""
        params, stats = self.task.init(seed)
        return self.place(State(params, stats, self._optimizer.init(params)))

    def place(self, state: State) -> State:
        """Puts a state on every device, as the steps return it."""
        return self._split(state, PartitionSpec())

    def train(self, state: State, batch: Tree) -> tuple[State, dict[str, np.ndarray]]:
        """Runs the steps that a batch of (steps * global batch) examples holds.

        Returns:
          The new state, and what the task reports summed over devices, per step.
        """
        steps = (-1, self._config.global_batch)
        batch = jax.tree.map(lambda a: a.reshape(*steps, *a.shape[1:]), batch)
        if self._config.parallelism == "pmap":
            batch = jax.tree.map(self._for_each_device, batch)
        elif self._config.parallelism == "vmap":
            batch = jax.tree.map(self._in_parts, batch)
        else:
            batch = self._split(batch, PartitionSpec(None, AXIS))
        state, sums = self._train(state, batch)
        return state, jax.tree.map(np.asarray, sums)

    def evaluate(self, state: State) -> dict[str, float]:
        """What the task measures on its evaluation set."""
        return self.task.metrics(self.outputs(state))

    def outputs(self, state: State) -> Iterator[dict[str, np.ndarray]]:
        """What the task's `evaluate` gives for each batch of its evaluation set."""
        devices = len(self._devices)
        size = -(-self._config.evaluation_batch // devices) * devices
        for batch in self.task.evaluation_batches(size):
            batch = self._split(batch, PartitionSpec(AXIS))
            output = self._evaluate(state.params, state.stats, batch)
            yield jax.tree.map(np.asarray, output)

    def _for_each_device(self, array: np.ndarray) -> np.ndarray:
        """(steps, devices * batch, ...) to (devices, steps, batch, ...)."""
        return self._in_parts(array).swapaxes(0, 1)

    def _in_parts(self, array: np.ndarray) -> np.ndarray:
        """(steps, devices * batch, ...) to (steps, devices, batch, ...)."""
        steps, _, *rest = array.shape
        return array.reshape(steps, self._config.devices, self._config.batch, *rest)

    def _split(self, batch: Tree, spec: PartitionSpec) -> Tree:
        return jax.device_put(batch, NamedSharding(self._mesh, spec))

    def _steps(self, state: State, batches: Tree) -> tuple[State, dict[str, jax.Array]]:
        """Several steps in one loop on the device: one dispatch for all of them."""
        state, sums = jax.lax.scan(self._step, state, batches)
        if self._config.parallelism == "pmap":
            # Training never reads the running averages, and they are linear in what
            # they average, so to average them now is to average them at every step.
            state = state._replace(stats=_mean_over_devices(state.stats))
            sums = jax.lax.psum(sums, AXIS)
        return state, sums

    def _step(self, state: State, batch: Tree) -> tuple[State, dict[str, jax.Array]]:
        mapped = self._config.parallelism == "vmap"
        loss = self._mapped_loss if mapped else self.task.loss
        gradients, (stats, sums) = jax.grad(loss, has_aux=True)(
            state.params, state.stats, batch
        )
        if self._config.parallelism == "pmap":
            gradients = _mean_over_devices(gradients)
        updates, optimizer = self._optimizer.update(
            gradients, state.optimizer, state.params
        )
        params = optax.apply_updates(state.params, updates)
        return State(params, stats, optimizer), sums

    def _mapped_loss(
        self, params: Tree, stats: Tree, batch: Tree
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """The mean of the loss of every part, each with statistics of its own.

        The mean is taken before the gradient: parameters then have no axis of parts,
        and the gradients of the convolutions are those of one large batch rather than
        of as many groups as there are parts, which are slow on accelerators.
        """
        losses, (stats, sums) = jax.vmap(
            self.task.loss, in_axes=(None, None, 0), axis_name=AXIS
        )(params, stats, batch)
        # Linear, as in `_steps`: the mean at every step is the mean at the end.
        stats = jax.tree.map(lambda a: jnp.mean(a, 0), stats)
        return jnp.mean(losses), (stats, jax.tree.map(lambda a: jnp.sum(a, 0), sums))


def _mean_over_devices(tree: Tree) -> Tree:
    """One all-reduce for the whole tree: with small networks each costs the same."""
    if not jax.tree.leaves(tree):
        return tree
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.lax.pmean(flat, AXIS))
