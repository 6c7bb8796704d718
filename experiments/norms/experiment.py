"""The lab record: four norms at 32 examples per device.

python -m experiments norms --quick
python -m experiments norms
"""

import pathlib

from experiments import lab
from experiments.lab import Experiment, Options
from experiments.norms import recipe, report

PAPER = """
| | batch norm | layer norm | instance norm | group norm |
|---|---|---|---|---|
| validation error | 23.6 | 25.3 | 28.4 | 24.1 |
| behind the best | 0 | 1.7 | 4.8 | 0.5 |

ResNet-50 on ImageNet, 32 images on each of 8 GPUs, validation error in percent.
"""
NOTES = """
A ResNet-14 of 16 to 64 channels on 10,000 images of Fashion-MNIST takes the place of
ResNet-50 on ImageNet, and groups have 8 channels each: two to eight groups.

Each norm has the best of five rates of one search on one device, where 30 epochs are
9,360 steps: three times those of the record before, on two devices (3,120).
"""


def command() -> lab.Command:
    """What the command line takes."""
    return lab.Command(
        prog="python -m experiments norms",
        description="Trains with batch, layer, instance and group norm at 32 examples "
        "per device: the paper's table 1 and figure 4.",
        norms=recipe.NORMS,
        choices=recipe.NORMS,
        sizes=recipe.SIZES,
        full="five seeds, 90 epochs: for an accelerator, with --dataset fashion-mnist",
        out=pathlib.Path("runs") / "norms",
        devices=1,
    )


def work(asked: Options) -> lab.Record:
    """Trains all runs and writes record and figure."""
    from experiments.lab import images, plan
    from experiments.small_batch.recipe import network
    from experiments.training import Classification

    return images.run(
        asked,
        lambda devices, available: plan.configs(
            asked.norms,
            asked.size,
            recipe.RATES,
            devices=devices,
            available=available,
            parallelism=asked.parallelism,
        ),
        lambda dataset, config: Classification(dataset, network, config.norm),
        figure=report.figure,
        tell=report.table,
    )


EXPERIMENT = Experiment(
    name="norms",
    title="four norms at 32 examples per device",
    source="table 1 and figure 4",
    paper=PAPER,
    folder=pathlib.Path(__file__).parent,
    run=lab.runner(command, work),
    table=report.table,
    caption=report.caption,
    verdicts=report.verdicts,
    figure=report.figure,
    minutes=17,
    memory_gb=1.2,
    notes=NOTES,
)
