"""Imports run one way, and every module keeps to one idea."""

import ast
import graphlib
import importlib.util
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("flax_gn", "experiments")

# A module imports from the rows above its own. Modules of one row do not know each
# other; a package counts as one module, and only its own modules know its private ones.
ORDER = (
    ("_target", "_words"),
    ("_versions",),
    ("_activations", "_arguments", "_call"),
    ("_operands",),
    ("_problem",),
    ("_sharding",),
    ("_reference", "_xla"),
    ("_pallas",),  # its kernels leave forward mode to _xla
    ("_faster",),
    ("_dispatch",),
    ("functional",),
    ("_layers", "weight_standardization"),
    ("_nnx",),
    ("linen", "nnx"),
    ("models",),
    ("convert",),
)
ROW = {name: row for row, names in enumerate(ORDER) for name in names}

# The same inside the XLA implementation, where no platform knows another.
ORDER_OF_XLA = (
    ("_arithmetic",),
    ("_cpu_sums", "_devices", "_gpu_rows", "_pilot"),
    ("_gpu_sums", "_moments"),
    ("_cpu", "_gpu", "_plain", "_tpu"),
    ("_op",),
)
ROW_OF_XLA = {name: row for row, names in enumerate(ORDER_OF_XLA) for name in names}

# numpy and jaxlib come with jax, which is built on them.
FOREIGN = {"flax", "jax", "jaxlib", "numpy"}

# Of an extra, and so inside functions alone.
LATER = {"flax_gn.convert._trained": {"safetensors"}}

# Look at the kernels by themselves, which no call of the op shows.
INSIDE = {"experiments.benchmark.kernels", "experiments.benchmark.schedule"}

LONGEST = {"flax_gn": 400, "experiments": 450}


def _name(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    _name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}
LIBRARY = [name for name in MODULES if name.startswith("flax_gn.")]
INITS = [name for name, path in MODULES.items() if path.name == "__init__.py"]


def imported(module: str, source: str, *, at_top: bool = False) -> set[str]:
    """The modules that a module's source imports, anywhere in it or at its top."""
    tree = ast.parse(source)
    found = set()
    for node in tree.body if at_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            package = module if module in INITS else module.rpartition(".")[0]
            base = importlib.util.resolve_name(relative, package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
    return found


def _tops(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def _part(module: str) -> str:
    """The module of the order that this one belongs to."""
    return module.split(".")[1]


def _of_xla(module: str) -> str | None:
    """The name of a module of the XLA implementation in it, None for all others."""
    package, _, name = module.removeprefix("flax_gn.").partition(".")
    return name if package == "_xla" and name else None


def wrong(module: str, source: str) -> list[str]:
    """The imports of a module of the library that go against the order."""
    refused = []
    later = LATER.get(module, set()) - _tops(imported(module, source, at_top=True))
    for other in imported(module, source):
        top = other.split(".")[0]
        if top == "experiments" or other == "flax_gn":
            refused.append(other)
        elif top != "flax_gn":
            if top not in FOREIGN | later | sys.stdlib_module_names:
                refused.append(other)
        elif _of_xla(other) and _of_xla(module):
            if ROW_OF_XLA[_of_xla(other)] >= ROW_OF_XLA[_of_xla(module)]:
                refused.append(other)
        elif _part(other) != _part(module) and (
            ROW[_part(other)] >= ROW[_part(module)]
            or "._" in other.removeprefix("flax_gn.")
        ):
            refused.append(other)
    return refused


@pytest.mark.parametrize("module", LIBRARY)
def test_library_imports_only_what_lies_below(module):
    assert _part(module) in ROW, f"give {module} its place in ORDER"
    inside = _of_xla(module)
    assert inside in {None, *ROW_OF_XLA}, f"give {module} its place in ORDER_OF_XLA"
    assert not wrong(module, MODULES[module].read_text())


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_problem", "from flax_gn import _xla"),
        ("_problem", "import flax_gn.functional"),
        ("_problem", "def f():\n    from flax_gn._reference import group_norm"),
        ("_problem", "from ._xla import forward"),
        ("_xla._op", "from flax_gn._reference import group_norm"),
        ("_xla._cpu", "from flax_gn._xla import _gpu"),
        ("_xla._arithmetic", "from flax_gn._xla._devices import sum_over_devices"),
        ("nnx", "from flax_gn import linen"),
        ("linen", "from flax_gn import group_norm"),
        ("models.resnet", "from flax_gn.convert import choose_groups"),
        ("linen", "import flax_gn.convert._groups"),
        ("linen", "import orbax.checkpoint"),
        ("linen", "def f():\n    import safetensors"),
        ("convert._trained", "import safetensors"),
        ("models.resnet", "from experiments import records"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert wrong(f"flax_gn.{module}", source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("_xla._op", "from flax_gn import _sharding\nimport jax, math"),
        ("_xla._cpu", "from flax_gn._xla import _cpu_sums, _moments"),
        ("convert._nnx", "from flax_gn.convert._groups import choose_groups"),
        ("convert._nnx", "from ._groups import choose_groups"),
        ("models.resnet", "from flax_gn.linen import GroupNorm"),
        ("convert._trained", "from flax_gn.models import ResNet"),
        ("convert._trained", "def f():\n    from safetensors import numpy"),
    ],
)
def test_a_right_import_is_not(module, source):
    assert not wrong(f"flax_gn.{module}", source)


def test_no_module_imports_itself_in_a_circle():
    graph = {
        name: imported(name, path.read_text()) & set(MODULES)
        for name, path in MODULES.items()
    }
    # A package's __init__ hands names on; importing a sibling does not go through it.
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if name.startswith("experiments") and name not in INSIDE],
)
def test_experiments_use_what_is_public(module):
    others = imported(module, MODULES[module].read_text())
    private = [name for name in others if name.startswith("flax_gn.") and "._" in name]
    assert not private


@pytest.mark.parametrize("module", INITS)
def test_init_hands_names_on_and_defines_nothing(module):
    body = ast.parse(MODULES[module].read_text()).body
    if ast.get_docstring(ast.Module(body, [])) is not None:
        body = body[1:]
    handed_on, listed = set(), set()
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            handed_on |= {alias.asname or alias.name for alias in node.names}
        else:
            assert isinstance(node, ast.Assign), ast.unparse(node)
            assert ast.unparse(node.targets[0]) == "__all__", ast.unparse(node)
            listed = set(ast.literal_eval(node.value))
    assert listed == handed_on


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_enough_to_read(module):
    lines = len(MODULES[module].read_text().splitlines())
    assert lines <= LONGEST[module.split(".")[0]]
