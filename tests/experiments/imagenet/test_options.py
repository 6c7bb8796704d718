"""The command line, the recipes, and what is refused before any work is done."""

import dataclasses
import json
import pathlib
import re
import shlex
import struct

import pytest
from tensorboardX.proto import event_pb2

from experiments.imagenet import __main__ as program
from experiments.imagenet import journal, options
from experiments.imagenet.config import MODERN, PAPER, RECIPES, Config
from experiments.plan import __main__ as planning

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "scale.md"
GIVEN = ["--data", "synthetic", "--out", "runs/x"]


def test_the_paper_s_recipe():
    config, _ = options.parse(GIVEN)
    assert config == PAPER
    assert (config.network, config.norm, config.groups) == ("resnet50", "gn", 32)
    assert (config.epochs, config.batch, config.peak_rate) == (100, 8 * 32, 0.1)
    assert (config.schedule, config.weight_decay, config.decay) == (
        "steps",
        1e-4,
        "all",
    )


def test_values_go_before_the_recipe_s():
    config, asked = options.parse(
        [
            *GIVEN,
            *["--recipe", "modern", "--norm", "bn", "--batch", "512", "--no-nesterov"],
        ]
    )
    want = dataclasses.replace(MODERN, norm="bn", batch=512, nesterov=False)
    assert config == want
    assert not asked.distributed


def test_a_group_size_takes_the_place_of_groups():
    config, _ = options.parse([*GIVEN, "--group-size", "16"])
    assert (config.groups, config.group_size) == (None, 16)


def test_a_coordinator_means_other_hosts():
    explicit = ["--coordinator", "here:1234", "--hosts", "2", "--host", "0"]
    _, asked = options.parse([*GIVEN, *explicit])
    assert asked.distributed


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--batch 0", "expected a positive integer, got '0'"),
        ("--norm wn", "invalid choice: 'wn'"),
        ("--hosts 2", "--coordinator, --hosts and --host go together"),
        ("--norm bn --statistics global --accumulation 2", "needs a whole batch"),
        ("--out pyproject.toml", "expected a folder, got the file"),
    ],
)
def test_a_wrong_command(more, told, capsys):
    with pytest.raises(SystemExit):
        options.parse([*GIVEN, *more.split()])
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--data nowhere", "--data nowhere: there is no such folder"),
        ("--batch 12", "a batch of 12 cannot be cut into equal parts for 8 devices"),
        ("--batch 2048", "expected at least 2048 training examples"),
    ],
)
def test_what_cannot_be(more, told, tmp_path, capsys):
    arguments = ["--recipe", "try", "--data", "synthetic", "--out", str(tmp_path / "x")]
    assert program.main([*arguments, *more.split()]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_whole(name):
    assert RECIPES[name].peak_rate > 0


def test_groups_are_said_in_one_way():
    with pytest.raises(ValueError, match="give groups or group_size"):
        Config(groups=32, group_size=8)


def commands(module):
    """Those of the page, in code blocks."""
    text = PAGE.read_text().replace("\\\n", " ")
    found = re.findall(rf"python -m {module} ([^\n'#]*)", text)
    return [shlex.split(arguments) for arguments in found]


def test_the_commands_of_the_page(tmp_path):
    found = commands("experiments.imagenet")
    assert len(found) >= 5
    for argv in found:
        place = argv.index("--out") + 1
        argv[place] = str(tmp_path / argv[place].lstrip("/"))
        config, _ = options.parse(argv)
        # The devices that the page speaks of.
        config.check_devices(32 if config.batch == 1024 else 8)
    plans = commands("experiments.plan")
    assert len(plans) >= 2
    for argv in plans:
        planning._parser().parse_args(argv)


def test_the_journal_takes_back_what_came_after_the_checkpoint(tmp_path):
    first = journal.Journal(tmp_path, 0)
    for step in (1, 2, 3):
        first.write("train", step, {"loss": float(step), "rate": float("nan")})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # cut short
    again = journal.Journal(tmp_path, 2)
    again.write("train", 3, {"loss": 9.0})
    again.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    assert [(e["step"], e["loss"]) for e in entries] == [(1, 1.0), (2, 2.0), (3, 9.0)]
    assert entries[0]["rate"] is None
    events = [
        e for path in sorted((tmp_path / "tensorboard").iterdir()) for e in read(path)
    ]
    points = {
        (event.step, value.tag): value.simple_value
        for event in events
        for value in event.summary.value
    }
    assert points[3, "train/loss"] == 9.0


def read(path):
    """The events of one of TensorBoard's files."""
    content, start = path.read_bytes(), 0
    while start < len(content):
        (length,) = struct.unpack_from("<Q", content, start)
        event = event_pb2.Event()
        event.ParseFromString(content[start + 12 : start + 12 + length])
        yield event
        start += 12 + length + 4
