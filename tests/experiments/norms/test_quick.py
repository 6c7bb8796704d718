"""The four norms, from the command on tiny data to the page."""

from experiments.norms import recipe
from experiments.small_batch import recipe as small_batch
from tests.experiments.lab import quick
from tests.experiments.training import tiny


class TestQuick(quick.Quick):
    name = "norms"

    @classmethod
    def shrink(cls, patch, folder):
        del folder
        quick.two_classes(patch)
        patch.setattr(small_batch, "network", tiny.Network)

    def test_each_norm_has_its_rate(self, finished):
        rates = {run["norm"]: run["rate"] for run in finished.record["runs"]}
        assert rates == recipe.RATES
        assert list(rates) == ["bn", "ln", "in", "gn"]
