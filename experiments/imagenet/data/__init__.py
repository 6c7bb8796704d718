"""Labelled images from files, in the order and the share that each host needs."""

from experiments.imagenet.data.feed import Order, evaluation, training
from experiments.imagenet.data.formats import open_split
from experiments.imagenet.data.source import BadExampleError, Example, Source

__all__ = [
    "BadExampleError",
    "Example",
    "Order",
    "Source",
    "evaluation",
    "open_split",
    "training",
]
