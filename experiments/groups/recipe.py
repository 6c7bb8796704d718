"""The recipe: three convolutions of 64, 64 and 128 channels, a norm after each.

Every normalised layer has at least 64 channels, so that 64 groups are legal in each;
and one has more, so that 64 groups are not one channel each. Group norm does not look
at the batch, so that one batch size is enough.
"""

import functools

from experiments.lab import Size, search
from experiments.training.norms import COUNTS
from experiments.training.vgg import VGG

GROUPS = tuple(f"groups{count}" for count in COUNTS)
CHANNELS = tuple(f"channels{count}" for count in COUNTS)
NORMS = GROUPS + CHANNELS
# One rate for all, as in the paper: the best of the search with 32 groups.
RATES = dict.fromkeys(NORMS, search.best("groups", "groups32"))
BATCHES = (32,)

SIZES = {
    "default": Size(epochs=60, batches=BATCHES, seeds=5),
    "quick": Size(epochs=1, batches=BATCHES, seeds=1, examples=1280),
    "full": Size(epochs=60, batches=BATCHES, seeds=5),
}
QUICK = ("groups64", "groups1", "channels64", "channels1")  # the ends

network = functools.partial(VGG, stages=((64,), (64, 128)), stride=4)
