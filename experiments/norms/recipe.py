r"""The recipe: that of `small_batch` at 32 examples per device, for four norms.

The same network, the same images, and for each norm the best of the same learning
rates: batch norm's and group norm's from `small_batch`, the others' found likewise by

    python -m experiments.small_batch.search --norms ln in \
        --out experiments/norms/results/search.json
"""

from experiments.lab import Size
from experiments.small_batch import recipe

NORMS = ("bn", "ln", "in", "gn")
# Per 256 examples: for "ln" and "in" the best of the rates in search.json.
RATES = recipe.RATES | {"ln": 0.4, "in": 0.8}
BATCHES = (32,)

SIZES = {
    "default": Size(epochs=30, batches=BATCHES, seeds=3),
    "quick": Size(epochs=2, batches=BATCHES, seeds=1, examples=2560),
    "full": Size(epochs=90, batches=BATCHES, seeds=5),
}
