"""How the tests run: 8 CPU devices, no implicit promotion, and reproducible examples.

`pytest --hypothesis-profile=long` generates fifty times as many cases.
"""

import os
from importlib import metadata

import hypothesis
import jax
import jax.experimental
import pytest
from packaging.version import Version

# The compilers for TPU and GPU may be installed, for tests that only compile. Without
# a word jax would look for their devices.
if not os.environ.get("JAX_PLATFORMS"):
    jax.config.update("jax_platforms", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", 8)
# An interpreted kernel calls back into Python; operations in flight wait for each other
# for ever where the machine has few cores.
jax.config.update("jax_cpu_enable_async_dispatch", False)
if not hasattr(jax, "enable_x64"):  # jax 0.8 has it
    jax.enable_x64 = jax.experimental.enable_x64

_COMMON = {
    # A first example compiles; the next takes a millisecond.
    "deadline": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
    "print_blob": True,
}
hypothesis.settings.register_profile("ci", derandomize=True, **_COMMON)
hypothesis.settings.register_profile("long", max_examples=5000, **_COMMON)
hypothesis.settings.load_profile("ci")


# What `make test` leaves to `make test-all`: the experiments, simulated kernels, the
# compilers of other platforms, the expressions of XLA's passes, whole networks, files
# of other libraries, and drawn examples: most of the time.
WHOLE = (
    "tests/experiments/",
    "tests/compiled/",
    "tests/models/",
    "tests/pallas/",
    "tests/test_platforms.py",
    "tests/test_fuzz.py",
    "tests/test_golden.py",
    "tests/test_onnx.py",
    "tests/test_properties.py",
    "tests/test_trained.py",
    "tests/test_training_curves.py",
)

# A little of each stays.
SMOKE = (
    "tests/experiments/data/test_idx.py",
    "tests/experiments/plan/test_search.py",
    "tests/experiments/small_batch/test_options.py",
    "tests/models/test_resnet.py",
    "tests/pallas/test_gpu_tiles.py",
    "tests/pallas/test_op.py::test_cases_on_tpu[4d_2_groups]",
    "tests/pallas/test_refusals.py",
    "tests/pallas/test_tiles.py",
    "tests/test_platforms.py::test_open_number_of_samples",
)


def pytest_collection_modifyitems(items):
    for item in items:
        name = item.nodeid
        if name.startswith(WHOLE) and not name.startswith(SMOKE):
            item.add_marker(pytest.mark.whole)


def pytest_addoption(parser):
    parser.addoption(
        "--whole-table",
        action="store_true",
        help="compile every layer for every device in tests/compiled, for half an hour",
    )


def pytest_runtest_setup(item):
    for mark in item.iter_markers("needs"):
        for name, version in mark.kwargs.items():
            if Version(metadata.version(name)) < Version(version):
                pytest.skip(f"needs {name} {version}")


@pytest.fixture(autouse=True)
def no_implicit_promotion():
    """Fails an operation that mixes dtypes or ranks without saying so."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
