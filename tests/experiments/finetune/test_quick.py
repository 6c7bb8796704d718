"""From batch norm to group norm, from the command on tiny data to the page."""

import pytest

from experiments.finetune import recipe
from experiments.small_batch import recipe as small_batch
from tests.experiments.lab import quick
from tests.experiments.training import tiny


class TestQuick(quick.Quick):
    name = "finetune"

    @classmethod
    def shrink(cls, patch, folder):
        del folder
        quick.two_classes(patch)
        patch.setattr(small_batch, "network", tiny.Network)

    def test_what_goes_on_by_its_averages_starts_where_it_was_left(self, finished):
        before, *after = finished.record["runs"]
        assert (before["norm"], before["batch"], before["epochs"]) == ("bn", 32, 2)
        assert [recipe.arm(run) for run in after] == list(recipe.ARMS)
        starts = {recipe.arm(r): r["measured"]["start_errors"] for r in after}
        assert starts["frozen"] == starts["bn"]
        left = before["curve"]["test_errors"][-1]
        assert starts["bn"] == pytest.approx(left, abs=1e-6)
