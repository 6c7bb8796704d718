"""How much of a segmentation is right: intersection over union, and Dice."""

import numpy as np


def overlap(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection over union, and the Dice coefficient, of each class.

    Of the voxels A that are of a class and the voxels B that are said to be: |A and B|
    / |A or B|, and 2 |A and B| / (|A| + |B|). Both are 1 for a class that is neither
    there nor said to be.

    Args:
      confusion: (classes, classes), the number of voxels of class i said to be of j.

    >>> iou, dice = overlap(np.array([[2, 1, 0], [1, 4, 0], [0, 0, 0]]))
    >>> [round(float(value), 3) for value in (*iou, *dice)]
    [0.5, 0.667, 1.0, 0.667, 0.8, 1.0]
    """
    both = np.diag(confusion).astype(float)
    sizes = confusion.sum(0) + confusion.sum(1)
    there = sizes > 0
    iou = np.divide(both, sizes - both, out=np.ones_like(both), where=there)
    dice = np.divide(2 * both, sizes, out=np.ones_like(both), where=there)
    return iou, dice
