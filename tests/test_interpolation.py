"""Functions on quantics grids, against their values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftnn.encoding.functions import chebyshev_nodes, from_function, lagrange, on_coarser_grid


@given(st.integers(1, 11), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**16))
def test_polynomials_are_exact(sites, coarse, degree, seed):
    coefficients = np.random.default_rng(seed).standard_normal((3, degree + 1))

    def polynomials(x):
        return coefficients @ x ** np.arange(degree + 1)[:, None]

    found = from_function(polynomials, sites, coarse, degree, rtol=0.0).to_dense()
    expected = polynomials(np.arange(2**sites) / 2**sites)
    np.testing.assert_allclose(found, expected, atol=1e-11 * np.abs(coefficients).max())


@given(st.integers(7, 12), st.floats(1e-9, 1e-3), st.integers(0, 2**16))
def test_waves_are_met_to_the_tolerance(sites, rtol, seed):
    amplitudes = np.random.default_rng(seed).standard_normal((4, 5))

    def waves(x):
        return amplitudes @ np.cos(2 * np.pi * np.arange(5)[:, None] * x + 0.3)

    found = from_function(waves, sites, rtol=rtol).to_dense()
    expected = waves(np.arange(2**sites) / 2**sites)
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert errors.max() < 1.2 * rtol + 1e-9


def test_fine_grids_cost_no_more_evaluations():
    seen = []

    def sine(x):
        seen.append(len(x))
        return np.sin(2 * np.pi * x)[None]

    bonds = from_function(sine, 60, coarse=5, degree=9).bond_dims
    assert seen == [32 * 10]
    assert max(bonds) == 2
    finest = from_function(sine, 60, coarse=5, degree=9)
    np.testing.assert_allclose(
        on_coarser_grid(finest.cores, 8), sine(np.arange(256) / 256), atol=1e-7
    )


def test_nodes_and_basis():
    nodes = chebyshev_nodes(6)
    assert np.all(np.diff(nodes) > 0)
    assert 0 < nodes[0] < nodes[-1] < 1
    np.testing.assert_allclose(lagrange(6, np.linspace(0, 1, 7)).sum(axis=0), 1.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: from_function(lambda x: x, 8), r"shape \(704,\) for 704 points"),
        (lambda: from_function(lambda x: x[None, :3], 8), r"expected \(batch, 704\)"),
        (lambda: from_function(lambda x: x[None] * np.nan, 4), "NaN"),
        (lambda: from_function(lambda x: x[None], 0), "sites is 0"),
        (lambda: from_function(lambda x: x[None], 4, degree=0), "degree is 0"),
        (lambda: on_coarser_grid(from_function(lambda x: x[None], 4).cores, 5), "sites is 5"),
    ],
)
def test_wrong_functions(call, words):
    with pytest.raises(ValueError, match=words):
        call()
