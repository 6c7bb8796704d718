"""The lab record: a deeper residual network, and one without shortcuts.

python -m experiments depth --quick
python -m experiments depth
"""

import pathlib

from experiments import lab
from experiments.depth import report
from experiments.lab import Experiment, Options

PAPER = """
| ResNet-101, images per GPU | 32 | 2 |
|---|---|---|
| batch norm | 22.0 | 31.9 |
| group norm | 22.4 | 23.0 |

| VGG-16, images per GPU | 32 |
|---|---|
| no norm | 29.2 |
| batch norm | 28.0 |
| group norm | 27.6 |

ImageNet, validation error in percent.
"""
NOTES = """
ResNet-14 on half of the images takes the place of ResNet-101 on ImageNet, and a VGG of
8 convolutions that of VGG-16. The network without a norm has biases.

Thirty epochs are 600 steps at 32 examples per device, and 9,600 at 2. The ResNet gains
more from the steps of a small batch than batch norm loses to noise, and group norm
gains the most; `small_batch` takes the two apart. The VGG has one rate for all, as the
paper's, and no search was made. What is short is steps: at 5 epochs group norm had
hardly started, at 15 its seeds lay 20 points apart, and at 30 it still trails. `--full`
on an accelerator is what to try next.

This record is of the earlier regime, on eight devices and half of the images, and at 2
examples per device at the least. On two devices `small_batch` shows the fall of a
ResNet-14 at 1.
"""


def command() -> lab.Command:
    """What the command line takes."""
    from experiments.depth import recipe

    return lab.Command(
        prog="python -m experiments depth",
        description="Trains ResNet-14 at 32 and 2 examples per device, and a VGG whose "
        "late features it watches: the paper's ResNet-101, VGG-16 and figure 6.",
        norms=recipe.NORMS,
        choices=recipe.NORMS,
        sizes=recipe.SIZES,
        quick="32 examples per device and one short epoch",
        full="60 epochs: for an accelerator, with --dataset fashion-mnist",
        out=pathlib.Path("runs") / "depth",
    )


def work(asked: Options) -> lab.Record:
    """Trains all runs and writes record and figure."""
    from experiments.depth import recipe
    from experiments.depth.task import Watched
    from experiments.lab import images
    from experiments.training import Classification

    kinds = {"resnet": Classification, "vgg": Watched}
    return images.run(
        asked,
        lambda devices, available: recipe.configs(
            asked.norms,
            asked.size,
            devices=devices,
            available=available,
            parallelism=asked.parallelism,
        ),
        lambda dataset, config: kinds[config.network](
            dataset, recipe.NETWORKS[config.network], config.norm
        ),
        figure=report.figure,
        tell=report.table,
    )


EXPERIMENT = Experiment(
    name="depth",
    title="a deeper ResNet, and a VGG without shortcuts",
    source="section 4.1 and figure 6",
    paper=PAPER,
    folder=pathlib.Path(__file__).parent,
    run=lab.runner(command, work),
    table=report.table,
    caption=report.caption,
    verdicts=report.verdicts,
    figure=report.figure,
    minutes=15,
    memory_gb=1.5,
    notes=NOTES,
)
