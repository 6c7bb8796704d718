"""What one run is: everything that its numbers depend on beside the data."""

import dataclasses
import math

# Learning rates are stated for this many examples per step, whatever the batch.
REFERENCE_BATCH = 256
# Steps in one dispatch: enough to hide its cost, few enough for a lively progress bar.
MOST_STEPS_AT_ONCE = 64
PARALLELISMS = ("pmap", "jit", "vmap")


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run.

    Attributes:
      norm: a name of `experiments.training.NORMS`.
      batch: examples per device and step.
      devices: devices that share a step.
      seed: of the initial weights, the order of the examples and their augmentation.
      epochs: passes over the training set.
      epoch_examples: examples in a pass. A multiple of every global batch that runs are
        compared at, so that all of them see the same examples in the same order.
      rate: peak learning rate for a global batch of 256; it is linear in the batch.
      schedule: "cosine", from the peak to 0 over the budget, or "steps", a tenth after
        30, 60 and 90% of it, as in the paper.
      warmup: the part of the budget over which the rate rises from 0 to its schedule.
        A twentieth is the 5 of 100 epochs of the author's reproduction.
      momentum: of stochastic gradient descent.
      weight_decay: on all parameters, the norm's included, as in the paper.
      augment: whether to flip and shift the training images.
      optimizer: "sgd", with momentum and the decay in the gradient, or "adam", with the
        decay apart from it; momentum is then its first decay rate.
      network: names the network among runs that differ in it; "" where they do not.
      evaluation_batch: examples in one step of the evaluation, on all devices.
      parallelism: "pmap", where each device normalises its own examples; "vmap", where
        the devices are an axis of one program on one device and each part normalises
        its own examples; or "jit", where the compiler splits one program and batch norm
        sees the global batch.
    """

    norm: str
    batch: int
    devices: int
    seed: int
    epochs: int
    epoch_examples: int
    rate: float
    schedule: str = "cosine"
    warmup: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    augment: bool = True
    optimizer: str = "sgd"
    network: str = ""
    evaluation_batch: int = 512
    parallelism: str = "pmap"

    def __post_init__(self):
        if self.epoch_examples % self.global_batch or self.epoch_examples < 1:
            raise ValueError(
                "epoch_examples must be a positive multiple of the global batch, "
                f"{self.batch} x {self.devices}; got {self.epoch_examples}"
            )
        if self.schedule not in ("cosine", "steps"):
            raise ValueError(
                f"schedule must be 'cosine' or 'steps'; got {self.schedule!r}"
            )
        if self.optimizer not in ("sgd", "adam"):
            raise ValueError(
                f"optimizer must be 'sgd' or 'adam'; got {self.optimizer!r}"
            )
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be from 0 to below 1; got {self.warmup}")
        if self.parallelism not in PARALLELISMS:
            raise ValueError(
                f"parallelism must be one of {', '.join(PARALLELISMS)}; got "
                f"{self.parallelism!r}"
            )

    @property
    def name(self) -> str:
        """Names the folder among runs of other networks, norms, batches and seeds."""
        network = f"{self.network}-" if self.network else ""
        return f"{network}{self.norm}-{self.batch}-seed{self.seed}"

    @property
    def global_batch(self) -> int:
        return self.batch * self.devices

    @property
    def peak_rate(self) -> float:
        return self.rate * self.global_batch / REFERENCE_BATCH

    @property
    def epoch_steps(self) -> int:
        return self.epoch_examples // self.global_batch

    @property
    def steps(self) -> int:
        return self.epochs * self.epoch_steps

    @property
    def chunk_steps(self) -> int:
        """Steps in one dispatch: a divisor of an epoch's."""
        most = min(MOST_STEPS_AT_ONCE, self.epoch_steps)
        return next(n for n in range(most, 0, -1) if self.epoch_steps % n == 0)


def epoch_examples(examples: int, global_batches: list[int]) -> int:
    """The most of ``examples`` that every global batch divides.

    Raises:
      ValueError: there are too few.
    """
    multiple = math.lcm(*global_batches)
    if examples < multiple:
        raise ValueError(
            f"expected at least {multiple} training examples, for global batches of "
            f"{global_batches}; got {examples}: take smaller batches or more data"
        )
    return examples // multiple * multiple
