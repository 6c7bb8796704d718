"""Boxes at random, on whole pixels so that they can be counted."""

import numpy as np


def boxes(rng: np.random.Generator, n: int, side: int, least: int = 1) -> np.ndarray:
    corner = rng.integers(0, side - least, (n, 2))
    room = side - corner
    size = rng.integers(least, room + 1)
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def pixels(box, side: int) -> np.ndarray:
    """Which pixels a box covers."""
    left, top, right, bottom = (int(edge) for edge in box)
    covered = np.zeros((side, side), bool)
    covered[top:bottom, left:right] = True
    return covered


def iou(a, b, side: int = 32) -> float:
    """Intersection over union, by counting pixels."""
    a, b = pixels(a, side), pixels(b, side)
    return (a & b).sum() / (a | b).sum()
