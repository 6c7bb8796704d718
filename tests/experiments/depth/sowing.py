"""A small network that can be watched."""

from flax import linen as nn

from tests.experiments.training import tiny


class Sowing(tiny.Network):
    """A network that sows its convolution's output as the VGG does."""

    @nn.compact
    def __call__(self, x):
        x = self.conv(8, (3, 3), padding=[(1, 1)] * 2, use_bias=False, name="conv")(x)
        self.sow("intermediates", "last", x)
        x = nn.relu(self.norm(name="norm")(x))
        return nn.Dense(self.classes, name="head")(x.mean(axis=(1, 2)))
