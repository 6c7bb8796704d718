"""The lab record: a deeper residual network, and one without shortcuts.

python -m experiments depth --quick
python -m experiments depth
"""

import pathlib

from experiments import lab
from experiments.depth import report
from experiments.lab import Experiment, Options
from experiments.small_batch.recipe import DEVICES

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
ResNet-20 on 10,000 images of Fashion-MNIST takes the place of ResNet-101 on ImageNet,
and a VGG of 8 convolutions that of VGG-16. The network without a norm has biases. Each
network has for each norm the best of six rates of one search, at 32 per device; no
other batch was searched for.

Ten epochs are 1,560 steps at 32 examples per device and 49,920 at 1, which is why group
norm's error falls as the batch shrinks; batch norm's rises all the same. The VGG trains
for three times as many epochs, 4,680 steps. At 32 both networks still gain from more,
so that what tells the norms apart there is in part how fast they learn; at 1 per device
there are 32 times the steps.

An earlier record (ResNet-14, eight devices, half of the images, 32 and 2 per device;
the VGG for 600 steps at the rate 0.1 for all) had batch norm no worse at 2 per device
than at 32, and in the VGG group norm 8.2 points behind batch norm and 2.1 behind no
norm. It was short of steps, and eight devices hide batch norm's noise.
"""


def command() -> lab.Command:
    """What the command line takes."""
    from experiments.depth import recipe

    return lab.Command(
        prog="python -m experiments depth",
        description="Trains ResNet-20 at 32 examples per device and at 1, and a VGG "
        "whose late features it watches: the paper's ResNet-101, VGG-16 and figure 6.",
        norms=recipe.NORMS,
        choices=recipe.NORMS,
        sizes=recipe.SIZES,
        quick="32 examples per device and one short epoch",
        full="60 epochs: for an accelerator, with --dataset fashion-mnist",
        out=pathlib.Path("runs") / "depth",
        devices=DEVICES,
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
    minutes=16,
    memory_gb=1.5,
    notes=NOTES,
)
