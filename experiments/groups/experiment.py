"""The lab record: the number of groups, and of channels in a group.

python -m experiments groups --quick
python -m experiments groups
"""

import pathlib

from experiments import lab
from experiments.groups import recipe, report
from experiments.lab import Experiment, Options

PAPER = """
| groups | 64 | 32 | 16 | 8 | 4 | 2 | 1 = LN |
|---|---|---|---|---|---|---|---|
| error | 24.6 | 24.1 | 24.6 | 24.4 | 24.6 | 24.7 | 25.3 |

| channels per group | 64 | 32 | 16 | 8 | 4 | 2 | 1 = IN |
|---|---|---|---|---|---|---|---|
| error | 24.4 | 24.5 | 24.2 | 24.3 | 24.8 | 25.6 | 28.4 |

ResNet-50 on ImageNet, validation error in percent. The second row is from a third
party's notes, but for its last two numbers.
"""
NOTES = """
The network has three convolutions: the fewest with two widths, 64 channels and more in
every normalised layer, and cheap enough to be trained 70 times on a CPU. One group is
the paper's layer norm and one channel its instance norm, exactly: a test compares
outputs and gradients.

One rate serves all, as in the paper: the best of a search with 32 groups.
"""


def command() -> lab.Command:
    """What the command line takes."""
    return lab.Command(
        prog="python -m experiments groups",
        description="Trains with 64 to 1 groups, and with 64 to 1 channels in a group: "
        "the paper's table 3.",
        norms=recipe.NORMS,
        choices=recipe.NORMS,
        sizes=recipe.SIZES,
        quick="the four ends, one short epoch",
        full="five seeds, 60 epochs: for an accelerator, with --dataset fashion-mnist",
        out=pathlib.Path("runs") / "groups",
        devices=1,
    )


def work(asked: Options) -> lab.Record:
    """Trains all runs and writes record and figure."""
    from experiments.lab import images, plan
    from experiments.training import Classification

    quick = asked.size_name == "quick" and asked.norms == recipe.NORMS
    return images.run(
        asked,
        lambda devices, available: plan.configs(
            recipe.QUICK if quick else asked.norms,
            asked.size,
            recipe.RATES,
            devices=devices,
            available=available,
            parallelism=asked.parallelism,
        ),
        lambda dataset, config: Classification(dataset, recipe.network, config.norm),
        figure=report.figure,
        tell=report.table,
    )


EXPERIMENT = Experiment(
    name="groups",
    title="the number of groups, and of channels in a group",
    source="table 3",
    paper=PAPER,
    folder=pathlib.Path(__file__).parent,
    run=lab.runner(command, work),
    table=report.table,
    caption=report.caption,
    verdicts=report.verdicts,
    figure=report.figure,
    minutes=45,
    memory_gb=1.2,
    notes=NOTES,
)
