"""The lab record: segmentation at one and two patches per device, and what came out.

python -m experiments segmentation --quick
python -m experiments segmentation

On a task of the Medical Segmentation Decathlon, in its folder:

python -m experiments segmentation --dataset decathlon --data-folder Task04_Hippocampus
"""

import pathlib

from experiments import lab
from experiments.data import brain
from experiments.lab import Options, Record, Verdict
from experiments.lab.results import apart, exceeds
from experiments.segmentation import recipe, report

PAPER = """
| Mask R-CNN on COCO, mask AP | frozen batch norm (BN*) | group norm |
|---|---|---|
| C4 backbone | 32.8 | 33.6 |
| FPN backbone | 34.5 | 35.7 |

One or two images per GPU. The paper has no three-dimensional segmentation. That batch
norm depends on the batch and group norm does not is its table 2: error on ImageNet from
27.3 to 34.7% between 4 and 2 images per GPU, against 24.2 to 24.1%.
"""
NOTES = """
The network, a U-Net, and the data are others than the paper's, and far smaller: one
brain, the mean of 152, at 2 mm per voxel. Its back is trained on, its front is tested
on, with 24 mm between. Batch norm is not frozen, since nothing was trained before; when
it is tested, it uses the running averages of its statistics (momentum 0.9), as always.
Both norms have one learning rate, for which nothing was searched.
"""


def command() -> lab.Command:
    """What the command line takes."""
    return lab.Command(
        prog="python -m experiments segmentation",
        description="Trains U-Nets of two and three dimensions to tell grey and white "
        "matter apart, with batch norm and group norm, at one and two patches per "
        "device. The brain comes by: python -m experiments.data brain. With "
        "--dataset decathlon and the folder of a task it is organs and tumours, at a "
        "size for one GPU",
        norms=recipe.NORMS,
        choices=recipe.NORMS,
        sizes=recipe.SETS[brain.NAME].sizes,
        sizes_of={name: of.sizes for name, of in recipe.SETS.items()},
        out=pathlib.Path("runs") / "segmentation",
        quick="one batch size, one epoch",
        datasets=tuple(recipe.SETS),
        shipped=False,
    )


def work(asked: Options) -> Record:
    """Trains all runs and writes record and figure."""
    from experiments.segmentation import session

    return session.run(asked)


def verdicts(record: Record) -> list[Verdict]:
    """By mean IoU, as `exceeds` tells means over seeds apart."""
    cells = report.cells(record, "miou")
    found = []
    for network in report.networks(record):
        bn, gn = (
            {batch: cells[network, norm, batch] for batch in report.batches(record)}
            for norm in recipe.NORMS
        )
        few, many = min(bn), max(bn)
        title = report.NETWORKS[network]
        found += [
            Verdict(
                f"{title}: at {batch} per device group norm beats batch norm",
                "35.7 against 34.5% mask AP (FPN, batch norm frozen)",
                f"{gn[batch]} against {bn[batch]}% mean IoU",
                exceeds(gn[batch], bn[batch]),
            )
            for batch in bn
        ]
        if few == many:
            continue
        bn_lost, gn_lost = (apart(of[many], of[few]) for of in (bn, gn))
        found.append(
            Verdict(
                f"{title}: batch norm loses more than group norm from {many} per "
                f"device to {few}",
                "7.4 against -0.1 points of error from 4 to 2 (ImageNet)",
                f"{bn[many].mean - bn[few].mean:.1f} against "
                f"{gn[many].mean - gn[few].mean:.1f} points of mean IoU",
                exceeds(bn_lost, gn_lost),
            )
        )
    return found


EXPERIMENT = lab.Experiment(
    name="segmentation",
    title="segmentation at one and two patches per device",
    source="section 4.2",
    paper=PAPER,
    folder=pathlib.Path(__file__).parent,
    run=lab.runner(command, work),
    table=report.table,
    caption=report.caption,
    verdicts=verdicts,
    figure=report.figure,
    minutes=6,
    memory_gb=1.5,
    notes=NOTES,
)
