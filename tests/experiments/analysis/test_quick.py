"""What a step costs and the gradient's noise, from the command to the page."""

from experiments.analysis import experiment, steps
from experiments.small_batch import recipe
from tests.experiments.lab import quick
from tests.experiments.training import tiny


class TestQuick(quick.Quick):
    name = "analysis"

    @classmethod
    def shrink(cls, patch, folder):
        del folder
        quick.two_classes(patch)
        patch.setattr(recipe, "shallow", tiny.Network)
        patch.setattr(steps, "NORMS", ("none", "gn"))

    def test_steps_are_timed_and_the_gradient_is_cut(self, finished):
        size = experiment.SIZES["quick"]
        assert [row["norm"] for row in finished.record["steps"]] == ["none", "gn"]
        cut = [(row["norm"], row["batch"]) for row in finished.record["noise"]]
        assert cut == [(norm, batch) for norm in ("bn", "gn") for batch in size.batches]
