"""The names that users type. A change here breaks somebody's code: mean it.

`tests/test_docs.py` holds these names to the pages of the reference.
"""

import importlib
import inspect
import pathlib
import pkgutil
import subprocess
import sys
import typing

import flax.linen
import pytest
from flax import nnx

import flax_gn
from flax_gn import functional
from tests.test_docs import MODULES as DOCUMENTED

LAYERS = {"BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "WSConv"}
NAMES = {
    "flax_gn": {
        "group_norm",
        "group_stats",
        "instance_norm",
        "layer_norm",
        "weight_standardize",
    },
    "flax_gn.linen": LAYERS,
    "flax_gn.nnx": LAYERS,
    "flax_gn.convert": {
        "Change",
        "Left",
        "Report",
        "choose_groups",
        "linen_norm",
        "linen_variables",
        "nnx_model",
        "nnx_norm",
        "trained_variables",
    },
}
OPTIONS = {
    "group_size": None,
    "eps": 1e-5,
    "mask": None,
    "reduction_axes": None,
    "activation": None,
    "axis_name": None,
    "axis_index_groups": None,
    "dtype": None,
    "implementation": None,
}


@pytest.mark.parametrize("module", NAMES)
def test_names_are_these(module):
    found = importlib.import_module(module)
    assert set(found.__all__) == NAMES[module]
    assert len(found.__all__) == len(NAMES[module])
    for name in found.__all__:
        assert getattr(found, name) is not None


def test_every_documented_module_is_listed():
    assert set(DOCUMENTED) == set(NAMES)


def test_no_other_module_says_that_it_is_public():
    # A public module has no underscore; these hold what the package hands on.
    held = {"functional", "weight_standardization"}
    public = {
        f"flax_gn.{module.name}"
        for module in pkgutil.iter_modules(flax_gn.__path__)
        if not module.name.startswith("_") and module.name not in held
    }
    assert public - {"flax_gn.models"} == set(NAMES) - {"flax_gn"}


def _parameters(function):
    return dict(inspect.signature(function).parameters)


def test_arguments_of_group_norm():
    parameters = _parameters(flax_gn.group_norm)
    assert list(parameters) == ["x", "gamma", "beta", "groups", *OPTIONS]
    for name, default in OPTIONS.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == default
    for name in ("x", "gamma", "beta", "groups"):
        assert parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


@pytest.mark.parametrize("norm", [flax_gn.layer_norm, flax_gn.instance_norm])
def test_ends_take_the_options_of_group_norm(norm):
    options = typing.get_type_hints(functional.Options)
    assert set(options) == set(OPTIONS) - {"group_size"}
    assert [*_parameters(norm)] == ["x", "gamma", "beta", "options"]


def test_arguments_of_group_stats():
    parameters = _parameters(flax_gn.group_stats)
    shared = [name for name in parameters if name in OPTIONS]
    assert [*parameters] == ["x", "groups", *shared]
    assert {name: parameters[name].default for name in shared} == {
        name: OPTIONS[name] for name in shared
    }


@pytest.mark.parametrize(
    ("ours", "flaxs"),
    [
        ("flax_gn.linen", flax.linen),
        ("flax_gn.nnx", nnx),
    ],
)
def test_batch_norm_is_flaxs_own(ours, flaxs):
    assert importlib.import_module(ours).BatchNorm is flaxs.BatchNorm


def _loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=pathlib.Path(flax_gn.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(result.stdout.split())


def test_the_functions_need_no_flax():
    # Flax takes longer to import than jax does.
    assert "flax" not in _loaded_by("import flax_gn")
    assert "flax" in _loaded_by("import flax_gn.linen")


def test_importing_starts_no_backend():
    # Else jax.distributed.initialize and jax.config.update would come too late.
    loaded = _loaded_by(
        "import flax_gn.linen, flax_gn.nnx, flax_gn.convert\n"
        "from jax._src import xla_bridge\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    assert "flax_gn.nnx" in loaded
