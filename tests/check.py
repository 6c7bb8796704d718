"""Holds a result of the op against the oracle, with the tolerance of its case."""

import numpy as np

from tests import oracle, tolerances
from tests.cases import LITERAL, Case, Inputs


def value_bound(case: Case, data: Inputs, implementation=None) -> np.ndarray:
    """How far the op's output on ``data`` may be from float64."""
    forward = oracle.group_norm(
        data.x, data.gamma, data.beta, case.groups, **case.oracle_options(data.mask)
    )
    return tolerances.values(
        forward,
        _kept_values(data),
        _broadcast(case, data.gamma),
        _broadcast(case, data.beta),
        case.dtype,
        case.m,
        out=case.out,
        literal=implementation in LITERAL,
    )


def gradient_bounds(case: Case, data: Inputs, implementation=None):
    """How far each gradient may be from float64, by name; those that there are."""
    magnitudes, conditioning = _gradient_scales(case, data, implementation)
    return {
        name: tolerances.gradients(
            getattr(magnitudes, name),
            case.dtype,
            case.m,
            out=primal.dtype,
            conditioning=conditioning,
        )
        for name, primal in zip(("x", "gamma", "beta"), data.primals, strict=True)
        if primal is not None
    }


def values(case: Case, data: Inputs, actual, implementation=None) -> None:
    """``actual`` is the op's output on ``data``."""
    forward = oracle.group_norm(
        data.x, data.gamma, data.beta, case.groups, **case.oracle_options(data.mask)
    )
    assert actual.dtype == case.result_dtype
    bound = value_bound(case, data, implementation)
    tolerances.assert_close(actual, forward.y, bound, "y")


def gradients(case: Case, data: Inputs, actual, implementation=None) -> None:
    """``actual`` is the vector-Jacobian product with ``data.dy``."""
    options = case.oracle_options(data.mask)
    expected = oracle.gradients(*data.primals, case.groups, data.dy, **options)
    bounds = gradient_bounds(case, data, implementation)
    for name, got in zip(("x", "gamma", "beta"), actual, strict=True):
        primal, want = getattr(data, name), getattr(expected, name)
        if primal is None:
            assert got is None
            continue
        assert got.dtype == primal.dtype, name
        tolerances.assert_close(got, want, bounds[name], f"gradient of {name}")


def tangent(case: Case, data: Inputs, actual, implementation=None) -> None:
    """``actual`` is the Jacobian-vector product with ``data.tangents``."""
    options = case.oracle_options(data.mask)
    want = oracle.tangent(*data.primals, case.groups, *data.tangents, **options)
    assert actual.dtype == case.result_dtype
    forward = oracle.group_norm(*data.primals, case.groups, **options)
    _, conditioning = _gradient_scales(case, data, implementation)
    largest = np.max(np.abs(data.dx.astype(np.float64)), initial=0.0)
    gamma, d_gamma, d_beta = (
        0.0 if a is None else np.abs(np.asarray(_broadcast(case, a), np.float64))
        for a in (data.gamma, data.d_gamma, data.d_beta)
    )
    gamma = 1.0 if data.gamma is None else gamma
    spread = 1 + np.max(np.abs(forward.x_hat), initial=0.0)
    magnitude = 2 * (
        gamma * forward.rstd * largest * spread**2 + d_gamma * spread + d_beta
    )
    bound = tolerances.gradients(
        magnitude,
        case.dtype,
        case.m,
        out=case.result_dtype,
        conditioning=conditioning,
    )
    tolerances.assert_close(actual, want, bound, "tangent")


def _gradient_scales(case: Case, data: Inputs, implementation):
    """The size of each gradient's terms before they cancel, and how ill-conditioned
    x_hat is."""
    options = case.oracle_options(data.mask)
    forward = oracle.group_norm(*data.primals, case.groups, **options)
    gamma = _broadcast(case, data.gamma)
    gamma = 1.0 if gamma is None else np.abs(np.asarray(gamma, np.float64))
    dz = 1.2 * np.abs(data.dy.astype(np.float64))  # no slope is above 1.2
    spread = 1 + np.max(np.abs(forward.x_hat), initial=0.0)
    d_x = forward.rstd * np.max(gamma * dz, initial=0.0) * spread**2
    axes = tuple(case.reduced)
    sums = []
    for term, given in ((dz * spread, data.gamma), (dz, data.beta)):
        total = term.sum(axes)
        if given is not None and given.ndim == 1:
            total = total.reshape(-1, case.shape[-1]).sum(0)
        sums.append(total)
    conditioning = 1.0
    if implementation in LITERAL:
        loss = tolerances.mean_loss(forward, _kept_values(data), case.m)
        conditioning += float(np.max(loss, initial=0.0))
    return oracle.Gradients(d_x, *sums), conditioning


def _kept_values(data: Inputs):
    """x with zeros where the mask hides it."""
    if data.mask is None:
        return data.x
    mask = data.mask
    if mask.ndim < data.x.ndim:
        mask = mask[..., None]
    return np.where(mask, data.x.astype(np.float64), 0.0)


def _broadcast(case: Case, parameter):
    """gamma or beta with x's rank, or None."""
    if parameter is None or parameter.ndim == 1:
        return parameter
    return np.expand_dims(parameter, tuple(case.reduced))
