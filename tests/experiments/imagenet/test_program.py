"""The compiled step: the same whether cut into parts, recomputed, or padded."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.imagenet.config import PAPER, TRY
from experiments.imagenet.program import Batch, Program, mesh, schedule
from tests.experiments.imagenet import worker

CONFIG = dataclasses.replace(TRY, batch=16, image_size=8)
DEVICES = 2


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr("experiments.imagenet.networks._BLOCKS", {})
    worker.tiny()


def run(steps=2, batch=None, devices=DEVICES, **changes):
    """The state after a few steps, and the metrics of the last one."""
    config = dataclasses.replace(CONFIG, **changes)
    program = Program(config, 10, 5, mesh(jax.devices()[:devices]))
    state = program.init()
    for _ in range(steps):
        placed = program.place(examples() if batch is None else batch)
        stop = program.place(np.zeros(devices, np.int32))
        state, metrics = program.train(state, placed, stop)
    return jax.tree.map(np.asarray, (state, metrics))


def examples(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (16, 8, 8, 3)).astype(np.uint8)
    return Batch(images, rng.integers(0, 10, 16).astype(np.int32))


@pytest.fixture(scope="module")
def plain():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.imagenet.networks._BLOCKS", {})
        worker.tiny()
        return run()


def same(one, other, rtol=2e-5, atol=1e-6):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    for a, b in leaves:
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "changes", [{"accumulation": 4}, {"remat": True}, {"devices": 1}]
)
def test_how_it_is_computed_does_not_show(plain, changes):
    state, metrics = run(**changes)
    same(state.params, plain[0].params)
    same((metrics.loss, metrics.gradient), (plain[1].loss, plain[1].gradient))


def test_a_row_without_an_example_has_no_weight():
    """The same examples twice, in half of the rows and in all of them."""
    few = examples()
    images = np.concatenate([few.images[:8], np.zeros_like(few.images[:8])])
    labels = np.concatenate([few.labels[:8], np.full(8, -1, np.int32)])
    order = np.arange(16).reshape(2, 8).T.ravel()  # on both devices
    state, metrics = run(batch=Batch(images[order], labels[order]))
    double = Batch(*(np.concatenate([a[:8], a[:8]]) for a in few))
    want, told = run(batch=double)
    assert metrics.examples == 8
    assert told.examples == 16
    same(state.params, want.params)
    assert metrics.loss == pytest.approx(told.loss, rel=1e-5)


def test_global_statistics_are_those_of_one_device():
    one, _ = run(norm="bn", devices=1)
    shared, _ = run(norm="bn", statistics="global")
    own, _ = run(norm="bn", statistics="device")
    same((shared.params, shared.stats), (one.params, one.stats), rtol=1e-4, atol=1e-5)
    kernel = [s.params["head"]["kernel"] for s in (one, own)]
    assert np.abs(kernel[0] - kernel[1]).max() > 1e-4


@pytest.mark.parametrize("skip", [False, True])
def test_a_step_that_is_not_finite_changes_nothing(skip):
    config = dataclasses.replace(CONFIG, skip_nonfinite=skip)
    program = Program(config, 10, 5, mesh(jax.devices()[:DEVICES]))
    stop = np.array([0, 1], np.int32)
    good = examples()
    images = good.images.astype(np.float32)
    bad = images.copy()
    bad[-1] = np.nan  # on the second device
    state = program.init()
    before = jax.tree.map(np.asarray, state)
    batch = program.place(Batch(bad, good.labels))
    state, metrics = program.train(state, batch, program.place(stop))
    assert not metrics.finite
    assert np.asarray(metrics.local_finite).tolist() == [True, False]
    assert metrics.stop == 1
    after = jax.tree.map(np.asarray, state)
    assert (bool(after.alive), int(after.step)) == ((True, 1) if skip else (False, 0))
    for a, b in zip(
        jax.tree.leaves((before.params, before.optimizer)),
        jax.tree.leaves((after.params, after.optimizer)),
        strict=True,
    ):
        assert np.array_equal(a, b)
    # Where it has to stop, good steps do not change it either.
    batch = program.place(Batch(images, good.labels))
    state, metrics = program.train(state, batch, program.place(stop))
    assert metrics.finite
    moved = np.abs(np.asarray(state.params["head"]["bias"])).max()
    assert (moved > 0) == skip
    state, _ = program.train(program.revived(state), batch, program.place(stop))
    assert np.abs(np.asarray(state.params["head"]["bias"])).max() > moved


def test_the_paper_s_schedule():
    rate = schedule(PAPER, 10)
    drops = {0: 0.1, 299: 0.1, 300: 0.01, 599: 0.01, 600: 0.001, 900: 0.0001}
    for step, value in drops.items():
        assert float(rate(step)) == pytest.approx(value, rel=1e-5)


def test_warm_up():
    rate = schedule(dataclasses.replace(PAPER, warmup=2.0, batch=512), 10)
    assert float(rate(0)) == pytest.approx(0.2 / 20)
    assert float(rate(9)) == pytest.approx(0.1)
    assert float(rate(19)) == pytest.approx(0.2)
    assert float(rate(100)) == pytest.approx(0.2)


@pytest.mark.parametrize("decay", ["all", "kernels"])
def test_what_decays(decay):
    """With a rate and images that move nothing else, only decay is left."""
    batch = Batch(np.zeros((16, 8, 8, 3), np.uint8), np.full(16, -1, np.int32))
    state, metrics = run(1, batch, decay=decay, weight_decay=0.5, rate=16.0)
    assert metrics.examples == 0
    scale = state.params["stem_norm"]["scale"]
    assert np.allclose(scale, 1.0 if decay == "kernels" else 0.5)


def test_a_batch_that_cannot_be_shared():
    config = dataclasses.replace(CONFIG, accumulation=3)
    with pytest.raises(
        ValueError, match=r"for 2 devices, 3 at a time .* multiple of 6"
    ):
        Program(config, 10, 5, mesh(jax.devices()[:2]))
