"""What the command line takes, and what it refuses before any work."""

import subprocess
import sys

import pytest

from experiments.small_batch import __main__ as command
from experiments.small_batch import options, recipe, session


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    def run(_):
        pytest.fail("work began")

    monkeypatch.setattr(session, "run", run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--bogus", "unrecognized arguments: --bogus"),
        ("--qui", "unrecognized arguments: --qui"),
        ("--dataset imagenet", "--dataset: invalid choice: 'imagenet'"),
        ("--norms bn xn", "--norms: invalid choice: 'xn'"),
        ("--norms bn bn", "--norms: expected each once"),
        ("--batch-sizes 0", "--batch-sizes: expected a positive integer, got '0'"),
        ("--batch-sizes 2 2.5", "expected a positive integer, got '2.5'"),
        ("--batch-sizes 2 2", "--batch-sizes: expected each once, got [2, 2]"),
        ("--seeds -1", "--seeds: expected a positive integer, got '-1'"),
        ("--epochs none", "--epochs: expected a positive integer, got 'none'"),
        ("--parallelism shard", "--parallelism: invalid choice: 'shard'"),
        ("--quick --full", "--full: not allowed with argument --quick"),
        ("--data-folder nowhere", "--data-folder: expected a folder, got nowhere"),
        ("--data-folder .", "ships with the package; name the folder's dataset"),
        ("--out {file}", "--out: expected a folder, got the file {file}"),
        ("--out {file}/inner", "--out: expected a folder, got the file {file}"),
        ("--share 4/3", "--share: expected a part of 3, got '4/3'"),
        ("--share 1", "--share: expected a positive integer, got ''"),
        ("--resume --out {folder}", "--resume: there are no runs in {folder}"),
    ],
)
def test_refusals(arguments, message, tmp_path, capsys):
    names = {"file": tmp_path / "file", "folder": tmp_path}
    names["file"].touch()
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments.format(**names).split())
    assert stopped.value.code == 2
    assert message.format(**names) in " ".join(capsys.readouterr().err.split())


def test_defaults(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = options.parse([])
    assert asked.norms == ("bn", "gn")
    assert asked.size.batches == (32, 8, 2, 1)
    assert asked.parallelism == "pmap"
    assert asked.size == recipe.SIZES["default"]
    assert not list(tmp_path.iterdir()), "nothing is written yet"


def test_sizes_and_what_overrides_them():
    assert options.parse(["--full"]).size.seeds == 3
    quick = options.parse(["--quick", "--epochs", "3", "--batch-sizes", "4", "1"])
    assert quick.size_name == "quick"
    assert (quick.size.epochs, quick.size.batches, quick.size.seeds) == (3, (4, 1), 1)


def test_a_refusal_starts_no_device():
    """In a process of its own, where nothing else has looked at the devices."""
    code = (
        "import sys\n"
        "from experiments.small_batch.__main__ import main\n"
        "try:\n"
        "    main(['--bogus'])\n"
        "except SystemExit as stopped:\n"
        "    from jax._src import xla_bridge\n"
        "    sys.exit(xla_bridge.backends_are_initialized() or stopped.code != 2)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
