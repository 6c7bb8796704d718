"""Training on 8 devices: what they share, and that the split changes nothing for GN."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.training import Classification, Program, examples
from tests.experiments.training import tiny

# Two programs sum the same gradients of 16 examples in different orders, a few units of
# 2^-24 apart, and each of the 12 steps adds as much again while training amplifies it.
CURVES = 1e-4


def _program(norm="gn", **changes):
    config = tiny.config(norm=norm, **changes)
    return config, Program(Classification(tiny.dataset(), tiny.Network, norm), config)


def _curve(norm, parallelism):
    config, program = _program(norm, parallelism=parallelism)
    state, losses = program.init(0), []
    for epoch in range(config.epochs):
        batch = program.task.training_batch(config, epoch, 0, 64)
        state, sums = program.train(state, batch)
        losses.extend(sums["loss"] / config.global_batch)
    return np.array(losses), state


def test_group_norm_gives_the_same_loss_curve_under_pmap_and_jit():
    (pmapped, a), (jitted, b) = (_curve("gn", how) for how in ("pmap", "jit"))
    assert pmapped.shape == (12,)
    assert pmapped[-4:].mean() < 0.97 * pmapped[:4].mean(), "it learns"
    np.testing.assert_allclose(pmapped, jitted, rtol=CURVES)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=CURVES)


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_devices_as_an_axis_of_one_program_are_those_of_pmap(norm):
    (pmapped, a), (mapped, b) = (_curve(norm, how) for how in ("pmap", "vmap"))
    assert pmapped[-4:].mean() < 0.97 * pmapped[:4].mean(), "it learns"
    np.testing.assert_allclose(pmapped, mapped, rtol=CURVES)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=CURVES)


def test_batch_norm_does_not():
    (pmapped, _), (jitted, _) = (_curve("bn", how) for how in ("pmap", "jit"))
    assert np.abs(pmapped / jitted - 1).max() > 100 * CURVES


def test_a_step_is_the_optimizers_step_on_the_mean_gradient():
    """Against one device, plain optax, and the schedule in closed form."""
    config, program = _program(epochs=1, epoch_examples=16, weight_decay=0.1)
    before = program.init(0)
    batch = program.task.training_batch(config, 0, 0, 16)
    after, sums = program.train(before, batch)
    loss, gradient = jax.jit(
        jax.value_and_grad(lambda params: program.task.loss(params, {}, batch)[0])
    )(jax.device_get(before.params))
    want = jax.tree.map(
        lambda p, g: p - config.peak_rate * (g + 0.1 * p),
        jax.device_get(before.params),
        gradient,
    )
    assert sums["loss"][0] / 16 == pytest.approx(float(loss), rel=1e-5)
    for x, y in zip(jax.tree.leaves(after.params), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_batch_norm_normalises_per_device_and_averages_its_running_averages():
    config, program = _program("bn", epochs=1, epoch_examples=32)
    state = program.init(0)
    batch = program.task.training_batch(config, 0, 0, 32)
    after, _ = program.train(state, batch)
    # Two steps with 16 examples each, of which device d takes 2 d and 2 d + 1.
    first = jax.device_get(state)
    means, loss = [], jax.jit(program.task.loss)
    for device in range(tiny.DEVICES):
        chosen = jax.tree.map(lambda a, d=device: a[2 * d : 2 * d + 2], batch)
        _, (stats, _) = loss(first.params, first.stats, chosen)
        means.append(stats["norm"]["mean"])
    one_step = np.mean(means, axis=0)
    config, program = _program("bn", epochs=1, epoch_examples=16)
    single, _ = program.train(first, jax.tree.map(lambda a: a[:16], batch))
    np.testing.assert_allclose(single.stats["norm"]["mean"], one_step, atol=1e-6)
    assert not np.allclose(after.stats["norm"]["mean"], one_step, atol=1e-6)


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_evaluation_counts_every_test_image_once(norm):
    _, program = _program(norm)
    task: Any = program.task
    dataset = task.dataset
    state = jax.device_get(program.init(1))
    stats = jax.tree.map(lambda a: a + 0.5, state.stats)  # as if it had been trained
    state = state._replace(stats=stats)
    got = program.evaluate(program.place(state))
    model = task.model(training=False)
    x = (dataset.test_images / 255 - dataset.mean) / dataset.std
    logits = jax.jit(model.apply)(
        {"params": state.params, "batch_stats": stats}, jnp.asarray(x, jnp.float32)
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits, dataset.test_labels
    )
    wrong = np.mean(np.argmax(logits, -1) != dataset.test_labels)
    assert got["errors"] == pytest.approx(wrong)
    assert got["loss"] == pytest.approx(float(jnp.mean(losses)), rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "want"),
    [
        ("cosine", lambda t: 0.5 * (1 + np.cos(np.pi * t))),
        ("steps", lambda t: 0.1 ** sum(t >= at for at in (0.3, 0.6, 0.9))),
    ],
)
def test_the_schedule_runs_over_the_budget(schedule, want):
    """With a gradient of 1, no momentum and no decay an update is the rate."""
    from experiments.training.program import optimizer

    config = tiny.config(
        schedule=schedule,
        warmup=0.2,
        momentum=0.0,
        weight_decay=0.0,
        epochs=5,
        rate=16.0,
    )
    transformation = optimizer(config)
    state = transformation.init(jnp.zeros(()))
    for step in range(config.steps):
        update: Any
        update, state = transformation.update(jnp.ones(()), state, jnp.zeros(()))
        warm = min(1.0, (step + 1) / 4)
        at = want(step / config.steps)
        assert -update == pytest.approx(warm * at, abs=1e-5), step


def test_batch_norm_over_all_devices_is_that_of_one_program_for_all():
    (synchronised, a), (jitted, b) = _curve("sync", "pmap"), _curve("bn", "jit")
    np.testing.assert_allclose(synchronised, jitted, rtol=CURVES)
    for x, y in zip(jax.tree.leaves(a.stats), jax.tree.leaves(b.stats), strict=True):
        np.testing.assert_allclose(x, y, rtol=CURVES, atol=CURVES)


def test_adam_steps_by_the_rate_and_decays_apart_from_the_gradient():
    """In its first step the two averages of a gradient cancel but for its sign."""
    from experiments.training.program import optimizer

    config = tiny.config(optimizer="adam", weight_decay=0.5, rate=1.6)
    transformation = optimizer(config)
    weights = jnp.array([2.0, -4.0])
    state = transformation.init(weights)
    update, _ = transformation.update(jnp.array([0.3, 0.3]), state, weights)
    want = -config.peak_rate * (1 + 0.5 * np.array(weights))
    np.testing.assert_allclose(update, want, rtol=1e-5)


def test_more_devices_than_there_are_is_refused():
    task = Classification(tiny.dataset(), tiny.Network, "gn")
    with pytest.raises(ValueError, match="asks for 16 devices; there are 8"):
        Program(task, tiny.config(devices=16, epoch_examples=64))


def test_the_augmentation_is_optional():
    task = Classification(tiny.dataset(), tiny.Network, "gn")
    plain = task.training_batch(tiny.config(augment=False), 0, 0, 64)
    order = examples.order(0, 0, 70, 64)
    np.testing.assert_array_equal(plain.images, task.dataset.train_images[order])
    changed = task.training_batch(tiny.config(), 0, 0, 64)
    assert not np.array_equal(plain.images, changed.images)
    np.testing.assert_array_equal(plain.labels, changed.labels)
