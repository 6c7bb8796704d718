r"""The recipe: that of `small_batch` at 32 examples per device, for four norms.

The same network, the same images, and for each norm the best of the same learning
rates, which `python -m experiments search small_batch` finds on images held out.
"""

from experiments.lab import Size
from experiments.small_batch import recipe

NORMS = ("bn", "ln", "in", "gn")
# Per 256 examples.
RATES = recipe.RATES
BATCHES = (32,)

SIZES = {
    "default": Size(epochs=20, batches=BATCHES, seeds=3),
    "quick": Size(epochs=2, batches=BATCHES, seeds=1, examples=2560),
    "full": Size(epochs=90, batches=BATCHES, seeds=5),
}
