"""Functions on quantics grids, and of indices, against their values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import assert_close, chains, dense

from ftnn.encoding import QuanticsGrid, from_callable, sampled_error
from ftnn.encoding.functions import chebyshev_nodes, from_function, lagrange, on_coarser_grid
from ftnn.encoding.interpolation import eliminate


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


# ---- cross interpolation -------------------------------------------------------------------------


def all_indices(dims):
    return np.stack(np.unravel_index(np.arange(np.prod(dims)), dims), axis=1)


@given(chains(max_batch=3, max_bond=5, max_sites=8), st.sampled_from(["float64", "complex128"]))
def test_a_chain_of_low_rank_is_recovered(chain, dtype):
    """The rows and columns of every cut reveal its rank, in whatever samples."""
    x = chain.mps(dtype)
    vectors = dense(x).reshape(chain.batch, *chain.dims)
    peaks = np.abs(vectors).reshape(chain.batch, -1).max(axis=1)

    def entries(indices):
        return vectors[:, *indices.T]

    result = from_callable(entries, chain.dims, rtol=1e-9)
    assert result.phys_dims == chain.dims
    assert result.cores[0].dtype == dtype
    errors = np.abs(dense(result) - dense(x)).max(axis=1)
    assert (errors <= 1e-8 * peaks).all()
    assert sampled_error(result, entries, chain.dims).max() <= 1e-8
    ranks = [
        np.linalg.matrix_rank(
            (dense(x) / np.where(peaks > 0, peaks, 1.0)[:, None]).reshape(
                chain.batch * int(np.prod(chain.dims[:k])), -1
            ),
            1e-11,
        )
        for k in range(1, chain.L)
    ]
    assert all(b <= max(r, 1) for b, r in zip(result.bond_dims, ranks, strict=True))


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from(["interleaved", "serial", "fused"]),
    st.integers(0, 99),
)
def test_grids_address_points_by_bits(sites, variables, order, seed):
    rng = np.random.default_rng(seed)
    low = rng.uniform(-2, 2, variables)
    grid = QuanticsGrid(sites, np.stack([low, low + rng.uniform(0.1, 3, variables)], 1), order)
    indices = all_indices(grid.dims)
    points = grid.points(indices)
    steps = np.round((points - low) / (np.diff(grid.bounds)[:, 0] / 2**sites)).astype(int)
    assert len(np.unique(steps, axis=0)) == 2 ** (sites * variables) == len(indices)
    assert steps.min() == 0
    assert steps.max() == 2**sites - 1
    np.testing.assert_array_equal(grid.indices(points + 1e-9), indices)
    if order == "serial":
        expected = np.stack(np.unravel_index(np.arange(len(steps)), (2**sites,) * variables), 1)
        np.testing.assert_array_equal(steps, expected)
    elif order == "fused":  # site 0 holds the slowest bit of every variable, the first one first
        half = steps >= 2 ** (sites - 1)
        np.testing.assert_array_equal(indices[:, 0], half @ 2 ** np.arange(variables)[::-1])


@given(
    st.integers(2, 6),
    st.sampled_from(["interleaved", "serial", "fused"]),
    st.floats(1e-10, 1e-2),
    st.integers(0, 99),
)
def test_functions_of_two_variables_are_met_to_the_tolerance(sites, order, rtol, seed):
    rng = np.random.default_rng(seed)
    a, b, c = rng.uniform(0.5, 6.0, 3)
    grid = QuanticsGrid(sites, [(0.0, 1.0), (-1.0, 1.0)], order)

    def waves(x, y):
        return np.stack([np.cos(a * x + b * y), 1e6 / (1.0 + c * x**2 + y**2)])

    result = from_callable(waves, grid, rtol=rtol)
    expected = waves(*grid.points(all_indices(grid.dims)).T)
    error = np.abs(dense(result) - expected).max(axis=1) / np.abs(expected).max(axis=1)
    assert error.max() <= 3 * rtol  # places that the search did not meet


def test_points_are_few_on_fine_grids():
    seen = []

    def bump(x, y):
        seen.append(len(x))
        return np.exp(-(((x - y) / 0.1) ** 2)) / (1 + x)

    grid = QuanticsGrid(25, [(0.0, 1.0)] * 2)
    x = from_callable(bump, grid, rtol=1e-5)
    assert x.L == 50
    assert sum(seen) < 3e6
    assert sampled_error(x, bump, grid).max() < 2e-5


def test_a_peak_is_met_where_a_pivot_tells():
    place = np.array([[0.31234567, 0.7123456]])

    def peak(x, y):
        return np.exp(-1e14 * ((x - place[0, 0]) ** 2 + (y - place[0, 1]) ** 2))

    grid = QuanticsGrid(30, [(0.0, 1.0)] * 2)
    assert np.all(from_callable(peak, grid).cores[0] == 0.0)  # random places see nothing
    x = from_callable(peak, grid, pivots=place, rtol=1e-6)
    near = grid.indices(place + np.random.default_rng(0).normal(0.0, 5e-8, (200, 2)))
    values = np.ones((len(near), 1))
    for core, index in zip(x.cores, near.T, strict=True):
        values = np.einsum("nl,lnr->nr", values, core[0][:, index])
    np.testing.assert_allclose(values[:, 0], peak(*grid.points(near).T), atol=1e-5)


def test_what_has_no_low_rank_is_refused_or_cut():
    noise = np.random.default_rng(0).standard_normal((2,) * 14)
    with pytest.raises(ValueError, match=r"with bonds up to 8 after .* sweeps; raise max_bond"):
        from_callable(lambda i: noise[*i.T], noise.shape, max_bond=8)
    x = from_callable(lambda i: noise[*i.T], noise.shape, max_bond=8, rtol=0.0)
    assert max(x.bond_dims) == 8
    assert sampled_error(x, lambda i: noise[*i.T], noise.shape).max() > 0.1
    exact = from_callable(lambda i: noise[*i.T], noise.shape)
    assert_close(exact.to_dense()[0], noise.ravel(), condition=1e6)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 8), st.integers(0, 99))
def test_elimination_reveals_the_rank(n, m, rank, seed):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, m))
    rows, columns = eliminate(matrix, 99, 1e-10)
    assert len(rows) == len(columns) == min(n, m, rank)
    picked = matrix[np.ix_(rows, columns)]
    cross = matrix[:, columns] @ np.linalg.solve(picked, matrix[rows])
    np.testing.assert_allclose(cross, matrix, atol=1e-8)
    assert np.abs(matrix[:, columns] @ np.linalg.inv(picked)).max() < 10


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: from_callable(3, (2, 2)), TypeError, "function is a int, expected a callable"),
        (lambda: from_callable(np.sum, (2, 0)), ValueError, r"grid is \(2, 0\), expected"),
        (lambda: from_callable(lambda i: i, (2, 2)), ValueError, r"shape \(1000, 2\) for 1000"),
        (lambda: from_callable(lambda i: 1.0, (2, 2)), ValueError, r"shape \(\) for 1000 places"),
        (lambda: from_callable(lambda i: i[:, 0] / 0.0, (2,)), ValueError, "NaN or infinite at"),
        (
            lambda: from_callable(lambda x: np.where(x > 0, 1.0, np.nan), QuanticsGrid(2)),
            ValueError,
            r"NaN or infinite at \[0.0\]",
        ),
        (lambda: from_callable(lambda i: i.astype(str)[:, 0], (2,)), TypeError, "dtype <U"),
        (lambda: from_callable(np.sum, (2,), max_bond=0), ValueError, "max_bond is 0"),
        (lambda: from_callable(np.sum, (2,), rtol=2), ValueError, "rtol is 2"),
        (lambda: from_callable(np.sum, (2,), pivots=[[2]]), ValueError, "pivots go beyond"),
        (lambda: from_callable(np.sum, (2,), pivots=[[0.5]]), ValueError, "expected integers"),
        (
            lambda: from_callable(np.sin, QuanticsGrid(3), pivots=[[1.5]]),
            ValueError,
            "beyond the bounds",
        ),
        (lambda: QuanticsGrid(0), ValueError, "sites is 0"),
        (lambda: QuanticsGrid(2, [(1, 0)]), ValueError, "one pair .low, high. with low < high"),
        (lambda: QuanticsGrid(2, (0, 1)), ValueError, "one pair"),
        (lambda: QuanticsGrid(2, order="z"), ValueError, "order is 'z'; choose one of"),
        (lambda: QuanticsGrid(2).indices(np.zeros(3)), ValueError, r"expected \(n, 1\)"),
        (
            lambda: sampled_error(from_callable(np.sin, QuanticsGrid(3)), np.sin, (2, 2)),
            ValueError,
            "x has phys_dims",
        ),
    ],
)
def test_wrong_callables_are_named(call, error, words):
    with np.errstate(all="ignore"), pytest.raises(error, match=words):
        call()
