"""What one training run is: all that its numbers depend on beside the data."""

import dataclasses

# Learning rates are stated for this many examples per step, whatever the batch.
REFERENCE_BATCH = 256
NORMS = ("gn", "bn", "ln", "in")
BIT = (
    *("resnetv2_50x1_bit", "resnetv2_50x3_bit", "resnetv2_101x1_bit"),
    *("resnetv2_101x3_bit", "resnetv2_152x2_bit", "resnetv2_152x4_bit"),
)
NETWORKS = (
    *("resnet50", "resnet18", "resnet34", "resnet101", "resnet20", "resnet8"),
    *BIT,
)


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run.

    Attributes:
      norm: a name of `NORMS`.
      network: a name of `NETWORKS`, a network of `flax_gn.models`.
      weights: a file of weights to start from, as
        `flax_gn.convert.trained_variables` reads it.
      new_head: whether the last layer starts anew all the same.
      groups: of group norm, in every layer.
      group_size: channels in a group, in place of ``groups``; small networks have too
        few channels for 32 groups.
      statistics: of batch norm. "device": each device normalises its own examples, as
        in the paper; "global": all devices share statistics.
      image_size: height and width of what the network sees.
      batch: examples in a step, over all devices.
      accumulation: parts that a device cuts its examples into, one after another, to
        hold the activations of one part only. Batch norm sees a part at a time.
      epochs: passes over the training set.
      rate: peak learning rate for a batch of 256; it is linear in the batch.
      schedule: "steps", a tenth after 30, 60 and 90% of the epochs, or "cosine".
      warmup: epochs over which the rate rises from 0.
      momentum: of stochastic gradient descent.
      nesterov: whether momentum looks ahead.
      weight_decay: how much.
      decay: "all" parameters, as in the paper, or "kernels" alone.
      smoothing: of the labels.
      augment: "crop", a random part of the image, flipped or not, or "none".
      dtype: of the computation; parameters stay float32.
      remat: whether to compute each block's activations again in the backward pass.
      seed: of the initial weights, the order of the examples and their augmentation.
      skip_bad: whether an image that cannot be read is left out of its batch.
      skip_nonfinite: whether a step whose loss or gradients are not finite is left
        out; otherwise it ends the run.
    """

    norm: str = "gn"
    network: str = "resnet50"
    weights: str | None = None
    new_head: bool = False
    groups: int | None = 32
    group_size: int | None = None
    statistics: str = "device"
    image_size: int = 224
    batch: int = 256
    accumulation: int = 1
    epochs: int = 100
    rate: float = 0.1
    schedule: str = "steps"
    warmup: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay: str = "all"
    smoothing: float = 0.0
    augment: str = "crop"
    dtype: str = "float32"
    remat: bool = False
    seed: int = 0
    skip_bad: bool = False
    skip_nonfinite: bool = False

    def __post_init__(self):
        for name, allowed in (
            ("norm", NORMS),
            ("network", NETWORKS),
            ("statistics", ("device", "global")),
            ("schedule", ("steps", "cosine")),
            ("decay", ("all", "kernels")),
            ("augment", ("crop", "none")),
            ("dtype", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}; got "
                    f"{getattr(self, name)!r}"
                )
        for name in ("image_size", "batch", "accumulation", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        if self.new_head and self.weights is None:
            raise ValueError("a new head is for a network with weights; give weights")
        if (self.groups is None) == (self.group_size is None):
            raise ValueError(
                "give groups or group_size, and None for the other; got "
                f"{self.groups} and {self.group_size}"
            )
        if self.norm == "bn" and self.accumulation > 1 and self.statistics == "global":
            raise ValueError(
                "batch norm with global statistics needs a whole batch at a time; "
                "leave accumulation at 1, or take statistics per device"
            )

    @property
    def peak_rate(self) -> float:
        return self.rate * self.batch / REFERENCE_BATCH

    def check_devices(self, devices: int) -> None:
        """Refuses devices that the batch cannot be divided over.

        Raises:
          ValueError: the batch is no multiple of devices times accumulation.
        """
        if self.batch % (devices * self.accumulation):
            raise ValueError(
                f"a batch of {self.batch} cannot be cut into equal parts for {devices} "
                f"devices, {self.accumulation} at a time on each; choose a multiple of "
                f"{devices * self.accumulation}"
            )


# Wu & He, "Group Normalization", ECCV 2018, section 4.1: 8 GPUs with 32 images each.
# The last scale of each block starts at zero in `flax_gn.models`.
PAPER = Config()
# He et al., "Bag of Tricks for Image Classification with CNNs", CVPR 2019, without its
# changes to the network and without its teacher.
MODERN = Config(
    batch=1024,
    epochs=120,
    schedule="cosine",
    warmup=5.0,
    nesterov=True,
    decay="kernels",
    smoothing=0.1,
    dtype="bfloat16",
    statistics="global",
)
# To try things out in a minute, on the images that ship with the package.
TRY = Config(
    network="resnet8",
    groups=None,
    group_size=8,
    image_size=28,
    batch=128,
    epochs=3,
    rate=0.4,
    schedule="cosine",
    augment="none",
)
RECIPES = {"paper": PAPER, "modern": MODERN, "try": TRY}
# The paper reports the median of this many epochs at the end.
LAST_EPOCHS = 5
