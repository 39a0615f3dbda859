"""The experiment on two scales: functions, integral, data and network against dense references."""

import json
from itertools import pairwise

import numpy as np
import pytest
import scipy.integrate
from hypothesis import given
from hypothesis import strategies as st
from laws import EXACT, assert_close
from typer.testing import CliRunner

import ftnn
from ftnn.chains.distance import relative_squares
from ftnn.cli import app
from ftnn.experiments import Data, get_experiment
from ftnn.experiments.two_scale import model as network
from ftnn.experiments.two_scale.data import (
    Coefficients,
    encode_pairs,
    random_coefficients,
    resolved_bits,
)
from ftnn.experiments.two_scale.functions import from_two_scales
from ftnn.experiments.two_scale.integral import integral_cores
from ftnn.nonlinear.cross import entries
from ftnn.training.options import replace_values

seeds = st.integers(0, 2**16)


def good(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def midpoints(sites):
    return (np.arange(2**sites) + 0.5) / 2**sites


def values(coefficients, sites):
    """The coefficients at all midpoints, one sample at a time, each with its own ε."""
    x = midpoints(sites)
    return np.concatenate(
        [
            coefficients[n : n + 1](x, x * 2.0**bits)
            for n, bits in enumerate(coefficients.bits(sites))
        ]
    )


def errors(found, expected):
    return np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)


# ---- functions of two scales --------------------------------------------------------------------


@given(st.integers(2, 14), st.data(), seeds)
def test_functions_of_two_scales_at_all_points(sites, data, seed):
    bits = data.draw(st.integers(1, sites - 1))
    draw = random_coefficients(3, seed)
    x = midpoints(sites)
    for function in (draw, lambda x, y: 1.0 / draw(x, y), lambda x, y: x * draw(y, x)):
        found = from_two_scales(function, sites, bits).to_dense()
        assert errors(found, function(x, x * 2.0**bits)).max() < 3e-7


@given(st.integers(7, 20), seeds)
def test_functions_of_two_scales_at_random_points_of_fine_grids(bits, seed):
    draw = random_coefficients(3, seed)
    found = from_two_scales(lambda x, y: 1.0 / draw(x, y), 30, bits)
    places = np.random.default_rng(seed).integers(0, 2, (200, 30))
    x = places @ 0.5 ** np.arange(1, 31) + 0.5**31
    y = places[:, bits:] @ 0.5 ** np.arange(1, 31 - bits) + 0.5 ** (31 - bits)
    np.testing.assert_allclose(entries(found.cores, places), 1.0 / draw(x, y), atol=3e-6)


def test_the_coarse_scale_must_leave_bits_for_the_fine_one():
    for bits in (0, 9):
        with pytest.raises(ValueError, match=f"bits is {bits}, expected an integer from 1"):
            from_two_scales(lambda x, y: (x + y)[None], 9, bits)


# ---- the integral -------------------------------------------------------------------------------


@given(st.integers(2, 9))
def test_the_integral_is_a_cumulative_sum(sites):
    x = midpoints(sites)
    kernel = (np.tri(2**sites, k=-1) + 0.5 * np.eye(2**sites)) * (1 - x) / 2**sites
    assert_close(ftnn.MPO(integral_cores(sites)).to_dense(), kernel, condition=EXACT)


def test_the_integral_is_of_second_order():
    """Against adaptive quadrature, at a point of every grid that is nearest to 0.7."""
    function = lambda y: (1 - y) * np.exp(np.sin(5 * y))  # noqa: E731
    gaps = []
    for sites in (6, 8, 10):
        x = midpoints(sites)
        n = int(0.7 * 2**sites)
        kernel = ftnn.MPO(integral_cores(sites)).to_dense()[n]
        exact = scipy.integrate.quad(function, 0.0, x[n], epsabs=1e-13)[0]
        gaps.append(abs(kernel @ np.exp(np.sin(5 * x)) - exact))
    assert all(12.0 < a / b < 20.0 for a, b in pairwise(gaps))


# ---- data ---------------------------------------------------------------------------------------


@given(st.integers(6, 40), seeds)
def test_periods_are_resolved(sites, seed):
    first, last = resolved_bits(sites)
    bits = random_coefficients(50, seed).bits(sites)
    assert first <= bits.min() <= bits.max() <= last
    assert sites - last >= (10 if sites >= 17 else 5)
    assert sites < 30 or (first == 7 and last >= 20)


@given(seeds)
def test_coefficients_lie_between_their_bounds(seed):
    draw = random_coefficients(5, seed)
    for waves in (draw.slow, draw.fast):
        top = np.abs(waves(np.arange(1000) / 1000)).max(axis=1)
        np.testing.assert_allclose(top, 1.0, atol=1e-3)
    a = values(draw, 12)
    assert a.min() > 0.149
    assert a.max() < 1.851
    again = random_coefficients(5, seed)
    np.testing.assert_array_equal(again.slow.coefficients, draw.slow.coefficients)
    np.testing.assert_array_equal(again.scale, draw.scale)


@pytest.mark.parametrize("sites", [6, 8, 12, 14])
def test_pairs_against_dense_sums(sites):
    draw = random_coefficients(9, 3)
    a, u = (ftnn.MPS(cores).to_dense() for cores in encode_pairs(draw, sites))
    dense = values(draw, sites)
    assert errors(a, dense).max() < 3e-7
    f = (1 - midpoints(sites)) / dense / 2**sites
    assert errors(u, np.cumsum(f, axis=1) - 0.5 * f).max() < 1e-6


def test_sums_against_quadrature():
    """On fine grids the sum is the integral, at random points, with the largest ε."""
    draw = random_coefficients(2, 5)
    draw = Coefficients(draw.slow, draw.fast, 0.0 * draw.scale)
    cores = encode_pairs(draw, 20)[1]
    places = np.random.default_rng(0).integers(0, 2, (5, 20))
    x = places @ 0.5 ** np.arange(1, 21) + 0.5**21
    for n in range(2):
        one = draw[n : n + 1]

        def slope(y, one=one):
            y = np.atleast_1d(y)
            return ((1 - y) / one(y, y * 2.0**7)[0])[0]

        exact = [
            scipy.integrate.quad(slope, 0.0, end, limit=2000, epsabs=1e-9, epsrel=1e-9)[0]
            for end in x
        ]
        found = entries(cores, places)[n]
        np.testing.assert_allclose(found, exact, atol=2e-6)


# ---- the network --------------------------------------------------------------------------------


def built(sites, depth, **changes):
    experiment = get_experiment("two-scale")
    options = replace_values(
        experiment.tuned_options(),
        {"sites": sites, "depth": depth, "limit": 16, "max_bond": 64} | changes,
    )
    a, u = encode_pairs(random_coefficients(6, 1), sites)
    return experiment.build(options, Data(*3 * (a, u)))[1], a, u


def factor(model, layer, scale):
    """Multiply the output of a gated layer."""
    model.layers[layer].params["B.0"] = scale * model.layers[layer].params["B.0"]


@pytest.mark.parametrize("depth", range(1, 5))
@pytest.mark.parametrize("sites", [6, 10])
def test_without_noise_it_is_the_neumann_product(sites, depth):
    model, a, _ = built(sites, depth, noise=0.0)
    r = 1 - ftnn.MPS(a).to_dense()
    product = np.prod([1 + r**2.0**k if k else 1 + r for k in range(depth)], axis=0)
    expected = (product * np.ones_like(r)) @ ftnn.MPO(integral_cores(sites)).to_dense().T
    assert errors(ftnn.MPS(model.apply(a)).to_dense(), expected).max() < 1e-5


def test_factors_make_it_the_chebyshev_polynomial():
    """The polynomial of its degree whose residual 1 - a P is smallest between the bounds."""
    sigma, depth = 0.85, 3
    model, a, _ = built(8, depth, noise=0.0)

    def chebyshev(n, x):
        return np.polynomial.chebyshev.chebval(x, [0.0] * n + [1.0])

    for k in range(depth):
        factor(model, 1 + k, 1 + 1 / chebyshev(2 ** (k + 1), 1 / sigma))
    dense = ftnn.MPS(a).to_dense()
    residual = chebyshev(2**depth, (1 - dense) / sigma) / chebyshev(2**depth, 1 / sigma)
    expected = ((1 - residual) / dense) @ ftnn.MPO(integral_cores(8)).to_dense().T
    assert errors(ftnn.MPS(model.apply(a)).to_dense(), expected).max() < 1e-5


def test_noise_is_drawn_from_the_seed():
    first, second, other = (built(8, 1, seed=seed)[0].named_params()["1.A.1"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0
    exact = built(8, 1, noise=0.0)[0].named_params()["1.A.1"]
    assert 0 < np.abs(first - exact).max() < 0.06


def test_a_model_carried_to_a_finer_grid_acts_alike_on_every_point():
    coarse, _, _ = built(8, 2, noise=0.0)
    factor(coarse, 1, 1.5)  # what has been learned
    fine, a, _ = built(11, 2, noise=0.0)
    factor(fine, 1, 1.5)
    fresh, _, _ = built(11, 2, seed=5)
    carried = network.carry(coarse, fresh)
    assert relative_squares(carried.apply(a), fine.apply(a)).max() < 1e-9
    same = network.carry(carried, built(11, 2, seed=6)[0])
    for name, array in same.named_params().items():
        np.testing.assert_array_equal(array, carried.named_params()[name])
    with pytest.raises(
        ValueError, match="its grid has 2\\^11 points, and training begins on 2\\^8"
    ):
        network.carry(fine, coarse)
    with pytest.raises(ValueError, match="it has 2 gated layers, and this one 1; raise depth"):
        network.carry(coarse, built(11, 1)[0])
    for other in (coarse.layers[0], ftnn.Sequential(*coarse.layers[:2])):
        with pytest.raises(ValueError, match="expected a Linear, Gated ones and a Linear"):
            network.carry(other, fresh)


def test_further_layers_square_the_residual():
    model = built(8, 1, noise=0.0)[0]
    factor(model, 1, 1.4)
    deep, a, _ = built(8, 3)
    deep = network.carry(model, deep)
    dense = ftnn.MPS(a).to_dense()
    residual = (1 - 1.4 * dense * (2 - dense)) ** 4
    expected = ((1 - residual) / dense) @ ftnn.MPO(integral_cores(8)).to_dense().T
    assert errors(ftnn.MPS(deep.apply(a)).to_dense(), expected).max() < 1e-5


# ---- from end to end ----------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [1, 2])
def test_end_to_end(tmp_path, stages):
    """Training improves on the Neumann product, of one site a layer; it can be carried over."""
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--quick", "--depth", 1, "--limit", 32, "--quiet")
    sites = ("--sites", 8, "--fine-epochs", 2) if stages == 2 else ("--sites", 6)
    good("train", "two-scale", *options, *sites, "--epochs", 10, "--lr", 2e-2, "--out", first)
    summary = json.loads((first / "summary.json").read_text())
    assert summary["test_error"] < 0.9 * summary["neumann_error"]
    assert summary["test_error"] <= summary["largest_error"]
    by_bits = summary["errors_by_bits"]
    assert list(by_bits) == ["3" if stages == 2 else "1"]
    assert next(iter(by_bits.values())) == pytest.approx(summary["test_error"], rel=1e-9)
    assert (first / "solutions.png").stat().st_size > 10_000
    exact = built(sites[1], 1, noise=0.0)[0].named_params()
    changed = {
        name
        for name, array in ftnn.load(first / "model.safetensors").named_params().items()
        if not np.array_equal(array, exact[name])
    }
    assert changed == {"1.A.1", "1.B.1"}
    learned = ftnn.load(first / "model.safetensors").named_params()
    for name in changed:
        assert not learned[name][0, [0, 1], [1, 0]].any()
    if stages == 1:
        return
    still = ("--epochs", 1, "--lr", 1e-12, "--start", first, "--out", second)
    good("train", "two-scale", *options, "--sites", 12, *still)
    carried = json.loads((second / "summary.json").read_text())
    assert carried["test_error"] < 0.9 * carried["neumann_error"]
    assert "parameters" in good("inspect", second)
    good("train", "--resume", second, "--quiet")
