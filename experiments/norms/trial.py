"""What the search for the rates and the pilot train: that of `small_batch`.

On one device, as `experiments.lab.search` has it.
"""

from experiments.small_batch.trial import trial

__all__ = ["trial"]
