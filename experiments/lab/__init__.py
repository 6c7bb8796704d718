"""What every experiment shares: how it is described, run, recorded, drawn and told."""

from experiments.lab.command import conduct, runner
from experiments.lab.experiment import Experiment, Record, Ruling, Verdict
from experiments.lab.options import Command, Options, Size
from experiments.lab.refusal import RefusalError

__all__ = [
    "Command",
    "Experiment",
    "Options",
    "Record",
    "RefusalError",
    "Ruling",
    "Size",
    "Verdict",
    "conduct",
    "runner",
]
