"""The sweep of groups, from the command on tiny data to the page."""

import functools

from experiments.groups import recipe
from tests.experiments.lab import quick
from tests.experiments.training import tiny


class TestQuick(quick.Quick):
    name = "groups"

    @classmethod
    def shrink(cls, patch, folder):
        del folder
        quick.two_classes(patch)
        network = functools.partial(tiny.Network, features=128)
        patch.setattr(recipe, "network", network)

    def test_the_ends_are_run(self, finished):
        assert tuple(run["norm"] for run in finished.record["runs"]) == recipe.QUICK
