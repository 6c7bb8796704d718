"""The metadata, the pinned environments, and the files of the wheel."""

import collections
import pathlib
import re
import shutil
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import flax_gn
from tests.test_architecture import MODULES, imported

ROOT = pathlib.Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))

# Where a package is imported under another name than it is installed by.
DISTRIBUTION = {
    "PIL": "pillow",
    "google": "protobuf",
    "haiku": "dm-haiku",
    "orbax": "orbax-checkpoint",
}


def pins(lock: pathlib.Path) -> list[str]:
    """The requirements of a lock, each on a line of its own with its hashes."""
    text = re.sub(r"\\\n\s*", "", lock.read_text())
    return [line for line in text.splitlines() if not re.match(r"\s*(#|$)", line)]


def requirement(pin: str) -> Requirement:
    return Requirement(pin.partition("--hash=")[0].strip())


def extra(name: str) -> list[Requirement]:
    """The requirements of an extra, with those of the extras that it names."""
    found = []
    for text in EXTRAS[name]:
        given = Requirement(text)
        if canonicalize_name(given.name) == canonicalize_name(PROJECT["name"]):
            found += [inner for other in given.extras for inner in extra(other)]
        else:
            found.append(given)
    return found


def test_brings_only_jax_and_flax():
    names = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert names == {"jax", "flax"}


def test_python_is_the_one_that_is_pinned():
    pinned = (ROOT / ".python-version").read_text().strip()
    assert Version(pinned) in SpecifierSet(PROJECT["requires-python"])
    assert f"Programming Language :: Python :: {pinned}" in PROJECT["classifiers"]
    assert PYPROJECT["tool"]["pyright"]["pythonVersion"] == pinned


def test_changelog_tells_of_this_version():
    Version(PROJECT["version"])
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"\n## [{PROJECT['version']}]" in changelog


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
class TestLock:
    def test_pins_a_version_and_its_hashes(self, lock):
        assert pins(lock)
        for pin in pins(lock):
            (specifier,) = requirement(pin).specifier
            assert specifier.operator == "==", pin
            hashes = pin.split("--hash=")[1:]
            assert hashes, pin
            for value in hashes:
                assert re.fullmatch(r"sha256:[0-9a-f]{64}", value.strip()), pin

    def test_names_no_host_and_no_folder(self, lock):
        for line in lock.read_text().splitlines():
            assert not re.search(r"://|file:|--(extra-)?index|--find-links", line), line
            # The only folder is the one of the locks, in the notes of what asked.
            assert "/" not in line.replace("requirements/", ""), line


def test_locks_agree_on_every_version():
    versions = collections.defaultdict(set)
    for lock in LOCKS:
        for pin in pins(lock):
            wanted = requirement(pin)
            key = canonicalize_name(wanted.name), str(wanted.marker or "")
            versions[key].add(str(wanted.specifier))
    assert {key: found for key, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("dev", ["dev"]),
        ("demo", ["build", "experiments"]),
        ("compiled", ["compiled"]),
    ],
)
def test_lock_has_what_the_project_asks_for(lock, extras):
    locked = {}
    for pin in pins(ROOT / "requirements" / f"{lock}.txt"):
        found = requirement(pin)
        if found.marker is None or found.marker.evaluate():
            (specifier,) = found.specifier
            locked[canonicalize_name(found.name)] = Version(specifier.version)
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    for name in extras:
        wanted += extra(name)
    for asked in wanted:
        if asked.marker is None or asked.marker.evaluate():
            version = locked[canonicalize_name(asked.name)]
            assert asked.specifier.contains(version), asked


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith("experiments")]
)
def test_experiments_import_what_their_extra_brings(module):
    """At the top of a module, that is; peers are imported where they are timed."""
    needs = "imagenet" if module.startswith("experiments.imagenet") else "experiments"
    brought = {canonicalize_name(given.name) for given in extra(needs)}
    brought |= {"jax", "flax", "flax-gn", "experiments"}
    if module.endswith(".torch_worker"):
        brought.add("torch")  # it runs under another Python, which the user names
    names = imported(module, MODULES[module].read_text(), at_top=True)
    tops = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert {canonicalize_name(DISTRIBUTION.get(top, top)) for top in tops} <= brought


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in the wheel."""
    building = pytest.importorskip("hatchling.builders.wheel")
    # Away from the checkout, where building must not leave anything.
    copy = tmp_path_factory.mktemp("checkout")
    ignored = shutil.ignore_patterns("__pycache__")
    for package in ("flax_gn", "experiments"):
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    for path in (ROOT / "pyproject.toml", ROOT / "LICENSE", *ROOT.glob("*.md")):
        shutil.copy(path, copy)
    (built,) = building.WheelBuilder(str(copy)).build(directory=str(copy / "dist"))
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_wheel_has_the_packages_their_types_and_the_licence(wheel):
    assert pathlib.Path(flax_gn.__file__).with_name("py.typed").exists()
    assert "flax_gn/py.typed" in wheel
    modules = {str(path.relative_to(ROOT)) for path in MODULES.values()}
    assert modules <= wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_wheel_has_the_data_that_the_experiments_read(wheel):
    assert {
        "experiments/benchmark/layer_shapes.csv",
        "experiments/data/fashion_mnist_subset.npz",
        "experiments/data/fashion_mnist_subset.LICENSE.txt",
    } <= wheel


def test_wheel_has_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert {t for t in tops if not t.endswith(".dist-info")} == {
        "flax_gn",
        "experiments",
    }
