"""Tolerances and the account of what was lost."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from laws import EPS, Chain, assert_close, chains, dense, dense_operator, random_operator

import ftnn
from ftnn.truncation import METHODS, truncate

names = pytest.mark.parametrize("method", sorted(METHODS))


def decaying(batch, L, phys, bond, ratio, seed=0, dtype="float64"):
    """Chain whose singular values fall by about ``ratio`` from one bond direction to the next."""
    cores = Chain(batch, (phys,) * L, (bond,) * (L - 1), "generic", seed).cores("float64")
    scale = ratio ** np.arange(bond)
    return ftnn.MPS([(c if k == L - 1 else c * scale).astype(dtype) for k, c in enumerate(cores)])


def errors_of(lazy, vectors, found):
    return np.linalg.norm(dense(found) - vectors, axis=1) / np.linalg.norm(vectors, axis=1)


@names
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-4])
def test_rtol_is_kept_and_used(method, backend, rtol):
    x = decaying(3, 6, 3, 8, 0.2)
    w = ftnn.MPO.random((3,) * 6, (3,) * 6, 3, seed=1)
    lazy = w @ x + x
    vectors = lazy.to_dense()
    if backend == "torch":
        from ftnn.arrays.backend import convert

        w = ftnn.MPO([convert(c, "torch") for c in w.cores])
        x = ftnn.MPS([convert(c, "torch") for c in x.cores])
        lazy = w @ x + x
    found = ftnn.compress(lazy, method=method, rtol=rtol)
    error = errors_of(lazy, vectors, found)
    # zip-up and the deterministic sketch know the error only locally
    slack = {"zipup": 10.0, "sdc": 10.0}.get(method, 1.0)
    assert (error <= slack * rtol).all()
    exact = ftnn.compress(lazy, method=method).bond_dims
    assert sum(found.bond_dims) < sum(exact)


@names
def test_a_smaller_tolerance_takes_larger_bonds(method):
    x = decaying(2, 6, 3, 8, 0.2)
    w = ftnn.MPO.random((3,) * 6, (3,) * 6, 3, seed=1)
    sizes = [sum(ftnn.compress(w @ x, method=method, rtol=r).bond_dims) for r in (0.3, 1e-2, 1e-5)]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize("method", ["direct", "dm", "src-oversample", "fit"])
def test_bonds_for_a_tolerance_are_nearly_the_smallest(method):
    x = decaying(2, 6, 3, 8, 0.2)
    w = ftnn.MPO.random((3,) * 6, (3,) * 6, 3, seed=1)
    best = ftnn.compress(w @ x, method="direct", rtol=1e-2).bond_dims
    found = ftnn.compress(w @ x, method=method, rtol=1e-2).bond_dims
    assert all(a <= b + 1 for a, b in zip(found, best, strict=True))


@names
def test_max_bond_wins_over_rtol(method):
    x = decaying(2, 6, 3, 8, 0.7)
    assert max(ftnn.compress(x, 3, method, rtol=1e-8).bond_dims) == 3


@names
@given(chains(min_sites=2, kinds=("generic", "padded", "deficient", "repeated")), st.integers(1, 4))
def test_known_errors_are_exact_and_estimates_are_near(method, chain, max_bond):
    x = chain.mps()
    w_cores = random_operator(chain.dims, chain.dims, 2, chain.seed)
    vectors = dense(x) @ dense_operator(w_cores).T
    assume(np.linalg.norm(vectors, axis=1).min() > 1e-8)
    found = truncate(ftnn.MPO(w_cores) @ x, max_bond, method)
    true = errors_of(None, vectors, found.mps)
    assert found.error_kind == METHODS[method].error
    if found.error_kind == "exact":
        floor = 1e3 * EPS["float64"] ** METHODS[method].digits
        assert (np.abs(found.error**2 - true**2) <= 1e-6 * true**2 + floor).all()
    else:  # 32 Khatri-Rao vectors, heavy tails: right within a factor, nothing out of nothing
        assert (found.error <= 6 * true + 1e-7).all()
        assert (found.error >= true / 6 - 1e-7).all()
    assert found.discarded.shape == (chain.batch, chain.L - 1)
    assert found.ranks.shape == (chain.batch, chain.L - 1)
    assert (found.ranks <= np.array(found.mps.bond_dims)).all()


def test_ranks_are_those_of_each_sample():
    first, second = decaying(1, 4, 3, 3, 0.9), decaying(1, 4, 3, 3, 0.9, seed=1)
    cores = [np.concatenate(pair) for pair in zip(first.cores, second.cores, strict=True)]
    for k in range(3):
        cores[k][1, ..., 1:] = 0
        cores[k + 1][1, 1:] = 0
    found = truncate(ftnn.MPS(cores), 3)
    assert found.ranks.tolist() == [[3, 3, 3], [1, 1, 1]]
    assert (found.error < 1e-6).all()


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("L", [1, 2])
def test_short_chains_have_errors_too(method, L):
    x = Chain(2, (4,) * L, (3,) * (L - 1), "generic", 0).mps()
    found = truncate(x, 2, method)
    assert found.error.shape == (2,)
    assert found.discarded.shape == (2, L - 1)
    vectors = dense(x)
    if METHODS[method].error == "exact":
        assert_close(found.error, errors_of(None, vectors, found.mps), condition=1e9, scale=1.0)


def test_the_sketch_grows_without_starting_again(monkeypatch):
    from ftnn.truncation import src

    sizes = []
    extend = src.extend_rows

    def counted(total, k, rows, omega):
        sizes.append((k, omega.shape[0]))
        return extend(total, k, rows, omega)

    monkeypatch.setattr(src, "extend_rows", counted)
    x = decaying(2, 6, 4, 20, 0.8)
    bonds = ftnn.compress(x, rtol=1e-3).bond_dims
    assert max(bonds) > 2 * src.BLOCK
    # every cut meets every block of rows once, of the size of a block
    assert {size for _, size in sizes} == {src.BLOCK}
    for k in range(5):
        assert sum(site == k for site, _ in sizes) <= -(-max(bonds) // src.BLOCK) + 1
