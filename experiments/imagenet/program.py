"""The compiled parts of a run: one training step and one step of evaluation.

Each is one program for all devices of a mesh with an axis "data", on one host or many.
Parameters are whole on every device; a batch is split over the devices. In training
each device sums the gradients of its own examples, part by part if asked to, and one
all-reduce adds them up.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.imagenet import networks
from experiments.imagenet.config import Config
from experiments.imagenet.networks import AXIS

Tree = Any


class State(NamedTuple):
    """All that a step changes.

    Attributes:
      step: int32, steps taken.
      params: parameters.
      stats: running averages of batch norm.
      optimizer: its momentum and its count of steps.
      alive: bool; false once a step was not finite and the config says to stop there.
        Nothing changes from then on: this is the state before that step.
    """

    step: Any
    params: Tree
    stats: Tree
    optimizer: Tree
    alive: Any


class Batch(NamedTuple):
    """Examples of one step.

    Attributes:
      images: uint8, (N, H, W, 3).
      labels: int32, (N,); -1 where there is no example.
    """

    images: Any
    labels: Any


class Metrics(NamedTuple):
    """What a training step reports.

    Attributes:
      loss: mean cross-entropy over the examples.
      errors: how many were named wrongly.
      examples: how many there were.
      gradient: the norm of the gradient.
      finite: whether loss and gradient are finite.
      stop: over all devices, how many were asked to stop.
      local_loss: (devices,), each device's own mean.
      local_finite: (devices,), whether its own loss and gradient are finite.
    """

    loss: Any
    errors: Any
    examples: Any
    gradient: Any
    finite: Any
    stop: Any
    local_loss: Any
    local_finite: Any


def mesh(devices: Any = None) -> Mesh:
    """All devices, or these, in a row."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def schedule(
    config: Config, epoch_steps: int
) -> Callable[[jax.typing.ArrayLike], jax.Array]:
    """The learning rate of each step."""
    steps = config.epochs * epoch_steps
    if config.schedule == "cosine":
        scheduled = optax.cosine_decay_schedule(config.peak_rate, steps)
    else:
        drops = {round(part * steps): 0.1 for part in (0.3, 0.6, 0.9)}
        scheduled = optax.piecewise_constant_schedule(config.peak_rate, drops)
    warmup = max(1, round(config.warmup * epoch_steps))

    def rate(step: jax.typing.ArrayLike) -> jax.Array:
        return jnp.minimum(1.0, (step + 1) / warmup) * scheduled(step)

    return rate


class Program:
    """Trains and evaluates the network of a config on the devices of a mesh.

    Args:
      config: the run.
      classes: of the data.
      epoch_steps: steps in an epoch.
      mesh: of `mesh`; its devices may be ones that can only be compiled for.

    Raises:
      OSError: the config's weights are not there.
      ValueError: they do not fit, or the batch cannot be divided over the devices.
    """

    def __init__(self, config: Config, classes: int, epoch_steps: int, mesh: Mesh):
        config.check_devices(mesh.size)
        self.config, self.mesh = config, mesh
        self.split = NamedSharding(mesh, PartitionSpec(AXIS))
        self.whole = NamedSharding(mesh, PartitionSpec())
        platform = mesh.devices.flat[0].platform
        self._training, self._testing = (
            networks.build(config, classes, platform, training=training)
            for training in (True, False)
        )
        self._trained = networks.trained(config, self._testing)
        self.rate = schedule(config, epoch_steps)
        decayed = None if config.decay == "all" else _kernels
        self._optimizer = optax.chain(
            optax.add_decayed_weights(config.weight_decay, mask=decayed),
            optax.sgd(self.rate, momentum=config.momentum, nesterov=config.nesterov),
        )
        self.train = jax.jit(self._train, donate_argnums=0)
        self.evaluate = jax.jit(self._evaluate)

    def init(self) -> State:
        """The state before the first step, on every device."""
        state = jax.jit(self._init, out_shardings=self.whole)()
        trained = jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(self.whole, np.asarray(a)),
            self._trained,
        )
        return state._replace(params=state.params | trained)

    def abstract(self) -> State:
        """Shapes and dtypes of the state, with their place on the mesh."""
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=self.whole),
            jax.eval_shape(self._init),
        )

    def abstract_batch(self) -> tuple[Batch, Any]:
        """Likewise for the other arguments of `train`."""
        size = self.config.image_size
        shape = (self.config.batch, size, size, 3)
        images = jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=self.split)
        labels = jax.ShapeDtypeStruct(shape[:1], jnp.int32, sharding=self.split)
        stop = jax.ShapeDtypeStruct((self.mesh.size,), jnp.int32, sharding=self.split)
        return Batch(images, labels), stop

    def place(self, local: Tree) -> Tree:
        """Global arrays from this host's part of them, (examples here, ...)."""
        return jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(self.split, a), local
        )

    def revived(self, state: State) -> State:
        """A state that goes on from the step that was not finite."""
        alive = jax.jit(lambda: jnp.bool(True), out_shardings=self.whole)()
        return state._replace(alive=alive)

    def _init(self) -> State:
        # The default generator takes ten times longer to compile than this one.
        key = jax.random.key(self.config.seed, impl="rbg")
        size = self.config.image_size
        images = jnp.zeros((1, size, size, 3))
        # Without the mapped axis of training; the variables are the same.
        variables = dict(self._testing.init(key, images))
        params = variables["params"]
        return State(
            step=jnp.int32(0),
            params=params,
            stats=variables.get("batch_stats", {}),
            optimizer=self._optimizer.init(params),
            alive=jnp.bool(True),
        )

    def _train(self, state: State, batch: Batch, stop: Any) -> tuple[State, Metrics]:
        whole, split = PartitionSpec(), PartitionSpec(AXIS)
        gradients, stats, sums, finite_here = jax.shard_map(
            self._local,
            mesh=self.mesh,
            in_specs=(whole, whole, split),
            out_specs=(whole, whole, split, split),
        )(state.params, state.stats, batch)
        total = jax.tree.map(jnp.sum, sums)
        count = jnp.maximum(total["examples"], 1)
        gradients = jax.tree.map(lambda g: g / count, gradients)
        loss, size = total["loss"] / count, optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(size)
        updates, optimizer = self._optimizer.update(
            gradients, state.optimizer, state.params
        )
        new = State(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            stats=stats,
            optimizer=optimizer,
            alive=state.alive,
        )
        # A step that is left out counts as a step: the data go on.
        skipped = state._replace(step=state.step + 1)
        if not self.config.skip_nonfinite:
            skipped = state._replace(alive=jnp.bool(False))
        new = jax.tree.map(
            lambda a, b: jnp.where(finite & state.alive, a, b), new, skipped
        )
        return new, Metrics(
            loss=loss,
            errors=total["errors"],
            examples=total["examples"],
            gradient=size,
            finite=finite,
            stop=jnp.sum(stop),
            local_loss=sums["loss"] / jnp.maximum(sums["examples"], 1),
            local_finite=finite_here,
        )

    def _local(self, params: Tree, stats: Tree, batch: Batch) -> tuple[Tree, ...]:
        """On one device: sums over its examples, then of gradients over all devices."""
        # From here on each device has parameters of its own, and so gradients.
        params, stats = jax.lax.pcast((params, stats), AXIS, to="varying")

        def part(stats: Tree, part: Batch) -> tuple[Tree, tuple[Tree, Tree]]:
            gradients, (stats, sums) = jax.grad(self._loss, has_aux=True)(
                params, stats, part
            )
            return stats, (gradients, sums)

        parts = self.config.accumulation
        if parts == 1:
            stats, (gradients, sums) = part(stats, batch)
        else:
            batch = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)

            def add(carry: Tree, some: Batch) -> tuple[Tree, None]:
                stats, *so_far = carry
                stats, new = part(stats, some)
                return (stats, *jax.tree.map(jnp.add, tuple(so_far), new)), None

            shapes = jax.eval_shape(part, stats, jax.tree.map(lambda a: a[0], batch))
            zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes[1])
            zeros = jax.lax.pcast(zeros, AXIS, to="varying")
            (stats, gradients, sums), _ = jax.lax.scan(add, (stats, *zeros), batch)
        finite = jnp.isfinite(sums["loss"] + optax.tree.norm(gradients))
        # The running averages are linear in what they average.
        stats = jax.lax.pmean(stats, AXIS)
        gradients = jax.lax.psum(gradients, AXIS)
        return gradients, stats, *jax.tree.map(lambda a: a[None], (sums, finite))

    def _loss(
        self, params: Tree, stats: Tree, batch: Batch
    ) -> tuple[jax.Array, tuple[Tree, dict[str, jax.Array]]]:
        """The sum over the examples of a device; new averages, and sums to report."""
        logits, changed = self._training.apply(
            {"params": params, "batch_stats": stats},
            networks.standardised(self.config, batch.images),
            mutable=["batch_stats"],
        )
        classes = logits.shape[-1]
        there = batch.labels >= 0
        targets = optax.smooth_labels(
            jax.nn.one_hot(batch.labels, classes), self.config.smoothing
        )
        losses = optax.softmax_cross_entropy(logits, targets)
        loss = jnp.sum(jnp.where(there, losses, 0.0))
        errors = there & (logits.argmax(-1) != batch.labels)
        sums = {
            "loss": loss,
            "errors": jnp.sum(errors, dtype=jnp.int32),
            "examples": jnp.sum(there, dtype=jnp.int32),
        }
        return loss, (changed.get("batch_stats", {}), sums)

    def _evaluate(self, params: Tree, stats: Tree, batch: Batch) -> dict[str, Any]:
        """Sums of cross-entropy and errors, and the number of examples."""
        logits: Any = self._testing.apply(
            {"params": params, "batch_stats": stats},
            networks.standardised(self.config, batch.images),
        )
        there = batch.labels >= 0
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.where(there, batch.labels, 0)
        )
        errors = there & (logits.argmax(-1) != batch.labels)
        return {
            "loss": jnp.sum(jnp.where(there, losses, 0.0)),
            "errors": jnp.sum(errors, dtype=jnp.int32),
            "examples": jnp.sum(there, dtype=jnp.int32),
        }


def _kernels(params: Tree) -> Tree:
    """Where weight decay applies if not everywhere: what has two axes or more."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
