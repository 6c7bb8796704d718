"""Group norm for every platform, in plain JAX that XLA fuses well.

Forward reads x for its two sums and again to write y; backward reads x and dy for two
sums, and again to write dx. Reverse mode keeps x, gamma, beta, the mask and the
statistics, and rebuilds everything else from them.

`_op` is the operation and its derivatives, `_arithmetic` what is formed of each
element, and `_cpu`, `_gpu`, `_tpu` what each platform does, pass by pass.
"""

from flax_gn._xla._arithmetic import (
    Moments,
    Saved,
    group_coefficients,
    sum_per_group,
    sum_to,
    to_channels,
)
from flax_gn._xla._devices import means_over_devices, merge_over_devices
from flax_gn._xla._op import (
    cotangent,
    forward,
    group_norm,
    group_stats,
    moments_tangent,
    pilot,
    tangent,
)

__all__ = [
    "Moments",
    "Saved",
    "cotangent",
    "forward",
    "group_coefficients",
    "group_norm",
    "group_stats",
    "means_over_devices",
    "merge_over_devices",
    "moments_tangent",
    "pilot",
    "sum_per_group",
    "sum_to",
    "tangent",
    "to_channels",
]
