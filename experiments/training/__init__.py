"""The trainer that the experiments share: a config says what, a task says of what."""

from experiments.training.classification import Classification
from experiments.training.config import Config
from experiments.training.loop import train
from experiments.training.norms import NORMS
from experiments.training.program import Program

__all__ = ["NORMS", "Classification", "Config", "Program", "train"]
