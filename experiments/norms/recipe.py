"""The recipe: that of `small_batch` at 32 examples per device, for four norms.

The same network and the same images, and one device: twice the steps in an epoch that
two have. Each norm has the rate that `experiments.lab.search` found for it there.
"""

from experiments.lab import Size, search

NORMS = ("bn", "ln", "in", "gn")
# Per 256 examples.
RATES = {norm: search.best("norms", norm) for norm in NORMS}
BATCHES = (32,)

SIZES = {
    "default": Size(epochs=30, batches=BATCHES, seeds=5),
    "quick": Size(epochs=2, batches=BATCHES, seeds=1, examples=2560),
    "full": Size(epochs=90, batches=BATCHES, seeds=5),
}
