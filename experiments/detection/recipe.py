"""The recipe: a site to learn on, a site to move to, and what is trained how long.

As in the paper (section 4.2) a network is first trained where a large batch is at hand
and batch norm works, and is then fine-tuned where memory allows one or two pictures
per device. There ImageNet comes first and COCO second. Here both are two sites of one
set of pictures, `SETS`, the first at 16 tiles per device.

Frozen batch norm, the paper's BN*, is fine-tuned from the weights of batch norm and
with its running averages of the first site, which no longer move. Its scale and shift
learn.

Unlike the paper: every layer has its norm, in the backbone, the pyramid and the heads,
for frozen batch norm as well; weight decay is on all parameters; and Adam takes the
steps, since they are few.
"""

from experiments.data import coco, trees
from experiments.detection.aerial import TREES
from experiments.detection.photographs import COCO
from experiments.detection.sets import NORMS, Set
from experiments.lab import Size, plan
from experiments.training import Config

_TITLES = ("frozen batch norm", "batch norm", "group norm")
TITLES: dict[str, str] = dict(zip(NORMS, _TITLES, strict=True))
# Whose weights each starts from.
SOURCES = {"frozen": "bn", "bn": "bn", "gn": "gn"}
SETS = {trees.NAME: TREES, coco.NAME: COCO}


def first(of: Set, norm: str, seed: int, size: Size) -> Config:
    """Training on the first site."""
    return Config(
        norm=norm,
        batch=of.first_batch,
        devices=1,
        seed=seed,
        epochs=size.epochs,
        epoch_examples=of.examples(size),
        rate=of.rate_first,
        evaluation_batch=of.evaluation_batch,
        **plan.ADAM,
    )


def configs(of: Set, norms: tuple[str, ...], size: Size) -> list[Config]:
    """Fine-tuning on the second site: one config per norm, batch and seed.

    Raises:
      ValueError: a batch does not divide the tiles of an epoch.
    """
    return plan.grid(
        norms,
        size,
        of.rates,
        devices=of.devices,
        epoch_examples=of.examples(size),
        evaluation_batch=of.evaluation_batch,
        **plan.ADAM,
    )
