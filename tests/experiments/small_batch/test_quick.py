"""Ever smaller batches, from the command on tiny data to the page."""

from experiments.small_batch import recipe, report
from tests.experiments.lab import quick
from tests.experiments.training import tiny


class TestQuick(quick.Quick):
    name = "small_batch"

    @classmethod
    def shrink(cls, patch, folder):
        del folder
        quick.two_classes(patch)
        patch.setattr(recipe, "network", tiny.Network)

    @classmethod
    def words(cls, record):
        return report.plain(record)

    def test_both_norms_see_the_largest_batch_and_the_smallest(self, finished):
        assert [(run["norm"], run["batch"]) for run in finished.record["runs"]] == [
            (norm, batch) for norm in ("bn", "gn") for batch in (32, 1)
        ]
        assert (
            finished.told.strip()
            .splitlines()[-1]
            .startswith("From 32 to 1 examples per device the error ")
        )
