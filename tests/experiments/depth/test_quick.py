"""Deeper networks, from the command on tiny data to the page."""

from experiments.depth import recipe
from tests.experiments.depth.sowing import Sowing
from tests.experiments.lab import quick
from tests.experiments.training import tiny


class TestQuick(quick.Quick):
    name = "depth"

    @classmethod
    def shrink(cls, patch, folder):
        del folder
        quick.two_classes(patch)
        patch.setattr(recipe, "NETWORKS", {"resnet": tiny.Network, "vgg": Sowing})

    def test_the_vgg_alone_goes_without_a_norm(self, finished):
        runs = finished.record["runs"]
        assert [(run["network"], run["norm"], run["batch"]) for run in runs] == [
            ("vgg", "none", 32),
            ("vgg", "bn", 32),
            ("vgg", "gn", 32),
            ("resnet", "bn", 32),
            ("resnet", "gn", 32),
        ]
        assert "| VGG, examples per device | 32 |" in finished.told
