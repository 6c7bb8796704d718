"""Classification that watches what the network's last convolution gives."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from experiments.training import Classification
from experiments.training.classification import Batch

PERCENTILES = (1, 20, 80, 99)  # the paper's


class Watched(Classification):
    """Adds the percentiles of the features that the network sows as "last".

    They are taken over test images, positions and channels, before norm and activation.
    """

    def evaluate(self, params: Any, stats: Any, batch: Batch) -> dict[str, jax.Array]:
        """The sums of `Classification`, and the features with their labels."""
        _, state = self.model(training=False).apply(
            {"params": params, "batch_stats": stats},
            self.standardised(batch.images),
            mutable=["intermediates"],
        )
        (features,) = state["intermediates"]["last"]
        return super().evaluate(params, stats, batch) | {
            "features": features,
            "labels": batch.labels,
        }

    def metrics(self, outputs: Iterable[dict[str, np.ndarray]]) -> dict[str, float]:
        """Loss, errors, and "percentile1" to "percentile99"."""
        outputs = list(outputs)
        features = np.concatenate(
            [out.pop("features")[out.pop("labels") >= 0] for out in outputs]
        )
        values = np.percentile(features, PERCENTILES)
        return super().metrics(outputs) | {
            f"percentile{q}": float(value)
            for q, value in zip(PERCENTILES, values, strict=True)
        }
