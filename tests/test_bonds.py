"""A largest bond for every cut: the laws of truncation, with bonds that vary along the chain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import EPS, Chain, assert_close, chains, dense, mpo, random_operator

import ftnn
from ftnn.chains.bonds import check_memory, cut_bonds, output_bonds
from ftnn.nonlinear import Gated, LayerNorm, Polynomial, SketchGauge
from ftnn.truncation import METHODS, truncate

backends = st.sampled_from(["numpy", "torch"])
EXACT = [name for name, method in METHODS.items() if "exact" in method.claims]
OPTIMAL = [name for name, method in METHODS.items() if "optimal" in method.claims]


def drawn_bonds(chain):
    return [int(b) for b in np.random.default_rng(chain.seed).integers(1, 5, chain.L - 1)]


def within(found, bonds):
    return all(have <= most for have, most in zip(found.bond_dims, bonds, strict=True))


@pytest.mark.parametrize("method", METHODS)
@given(chains(min_sites=2, max_sites=6, max_batch=3), backends, st.integers(1, 4))
def test_the_same_bond_at_every_cut_is_a_single_one(method, chain, backend, bond):
    x = chain.mps(backend=backend)
    lazy = mpo(random_operator(chain.dims, chain.dims, 2, chain.seed), backend) @ x + x
    one, each = (ftnn.compress(lazy, b, method) for b in (bond, [bond] * (chain.L - 1)))
    assert one.bond_dims == each.bond_dims
    np.testing.assert_array_equal(dense(one), dense(each))


@pytest.mark.parametrize("method", OPTIMAL)
@given(chains(min_sites=2, max_sites=8, kinds=("generic",)))
def test_law_5_with_a_bond_for_every_cut(method, chain):
    x, bonds = chain.mps(), drawn_bonds(chain)
    lazy = mpo(random_operator(chain.dims, chain.dims, 2, chain.seed)) @ x
    found, vectors = ftnn.compress(lazy, bonds, method), lazy.to_dense()
    assert within(found, bonds)
    error = np.linalg.norm(vectors - dense(found), axis=1)
    for n, vector in enumerate(vectors):
        best = 0.0
        for cut, bond in enumerate(bonds, start=1):
            s = np.linalg.svd(vector.reshape(int(np.prod(chain.dims[:cut])), -1), compute_uv=False)
            best += np.sum(s[bond:] ** 2)
        rounding = 1e4 * EPS["float64"] ** METHODS[method].digits * np.linalg.norm(vector)
        assert error[n] <= METHODS[method].factor * np.sqrt(best) * (1 + 1e-7) + rounding


@pytest.mark.parametrize("method", EXACT)
@given(chains(min_sites=2, max_sites=8, max_bond=4), backends)
def test_law_4_with_the_exact_bond_of_every_cut(method, chain, backend):
    x = chain.mps(backend=backend)
    lazy = mpo(random_operator(chain.dims, chain.dims, 3, chain.seed), backend) @ x - x
    bonds = output_bonds(lazy.terms, None)[1:-1]
    condition = 1e4 * EPS["float64"] ** (METHODS[method].digits - 1.0)
    scale = np.linalg.norm(dense(x)) + np.linalg.norm(lazy.to_dense())
    found = ftnn.compress(lazy, bonds, method)
    assert_close(dense(found), lazy.to_dense(), condition=condition, scale=scale)


@pytest.mark.parametrize("method", METHODS)
@given(chains(min_sites=2, max_sites=6))
def test_a_tolerance_keeps_to_the_bond_of_every_cut(method, chain):
    x, bonds = chain.mps(), drawn_bonds(chain)
    found = truncate(x + x, bonds, method, rtol=0.1)
    assert within(found.mps, bonds)
    loose = [4 * b * d for b, d in zip(chain.bonds, chain.dims[1:], strict=True)]
    if method != "zipup" and "exact" in METHODS[method].claims:
        assert (truncate(x + x, loose, method, rtol=0.1).error <= 0.3).all()


@given(chains(min_sites=2, max_sites=6, kinds=("generic",)), backends)
def test_dense_vectors_with_a_bond_for_every_cut(chain, backend):
    x, bonds = chain.mps(backend=backend), drawn_bonds(chain)
    found = ftnn.MPS.from_dense(x.to_dense(), chain.dims, bonds)
    assert within(found, bonds)
    whole = ftnn.MPS.from_dense(x.to_dense(), chain.dims, [1000] * (chain.L - 1))
    assert_close(dense(whole), dense(x), condition=1e4)


DIMS, BONDS = (3, 2, 4, 2), (2, 4, 3)
LAYERS = {
    "Linear": lambda bonds: ftnn.Linear(DIMS, DIMS, 3, bonds),
    "Linear, direct": lambda bonds: ftnn.Linear(DIMS, DIMS, 3, bonds, method="direct"),
    "Residual": lambda bonds: ftnn.Residual(ftnn.Linear(DIMS, DIMS, 2, 4), bonds),
    "Gated": lambda bonds: Gated(DIMS, DIMS, 2, bonds),
    "Gated, inner": lambda bonds: Gated(DIMS, DIMS, 2, 20, inner_bond=bonds),
    "Polynomial": lambda bonds: Polynomial(DIMS, [1.0, 0.5, -0.5], bonds),
    "SketchGauge": lambda bonds: SketchGauge(DIMS, bonds),
    "LayerNorm": lambda bonds: LayerNorm(DIMS, bonds),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_a_bond_for_every_cut(name, tmp_path):
    x = Chain(4, DIMS, (3, 5, 2), "generic", 3).mps()
    layer = LAYERS[name](list(BONDS))
    if name != "Gated, inner":
        assert layer(x).bond_dims == (2, 4, 2)  # the last site has dimension 2
    np.testing.assert_array_equal(dense(LAYERS[name](4)(x)), dense(LAYERS[name]([4] * 3)(x)))
    assert not np.allclose(dense(LAYERS[name](100)(x)), dense(layer(x)))
    exact = dense(LAYERS[name]([100, 200, 300])(x))
    assert_close(exact, dense(LAYERS[name](400)(x)), condition=1e4, scale=np.linalg.norm(exact))
    ftnn.save(ftnn.Sequential(layer), tmp_path / "model.safetensors")
    (again,) = ftnn.load(tmp_path / "model.safetensors").layers
    assert again.config() == layer.config()
    np.testing.assert_array_equal(dense(again(x)), dense(layer(x)))


def test_weights_with_a_bond_for_every_cut(tmp_path):
    x = Chain(4, DIMS, (3, 5, 2), "generic", 3).mps()
    assert ftnn.MPO.random(DIMS, DIMS, (2, 5, 1), seed=0).bond_dims == (2, 5, 1)
    assert ftnn.MPO.random(DIMS, DIMS, [99] * 3, seed=0).bond_dims == (9, 36, 4)  # exact ranks
    for make in (lambda d: ftnn.Linear(DIMS, DIMS, d, 6), lambda d: Gated(DIMS, DIMS, d, 6)):
        np.testing.assert_array_equal(dense(make(3)(x)), dense(make([3] * 3)(x)))
        layer = make([2, 5, 1])
        weight = [v for k, v in layer.params.items() if k.startswith(("weight.", "A."))]
        assert [core.shape[3] for core in weight] == [2, 5, 1, 1]
        ftnn.save(ftnn.Sequential(layer), tmp_path / "model.safetensors")
        (again,) = ftnn.load(tmp_path / "model.safetensors").layers
        np.testing.assert_array_equal(dense(again(x)), dense(layer(x)))
        with pytest.raises(ValueError, match=r"bond_dim is \(2, 5\), expected 3 positive integers"):
            make([2, 5])


@pytest.mark.parametrize(
    ("bonds", "words"),
    [
        ([2, 2], r"max_bond is \(2, 2\), expected 3 positive integers for the cuts of 4 sites"),
        ([2, 0, 2], r"max_bond is \(2, 0, 2\), expected 3 positive"),
        ([2, 2.5, 2], r"max_bond is \(2, 2.5, 2\), expected 3 positive"),
        ("222", "max_bond is '222', expected a positive integer, or one for each cut"),
        (2.0, "max_bond is 2.0, expected a positive integer, or one for each cut"),
        (True, "max_bond is True, expected a positive integer"),
        (b"222", "max_bond is b'222', expected a positive integer"),
        ([[1], [2, 3], [1]], r"max_bond is \(\[1\], \[2, 3\], \[1\]\), expected 3 positive"),
        (np.array(2.5), r"max_bond is array\(2.5\), expected a positive integer"),
    ],
)
def test_wrong_bonds_are_named(bonds, words):
    x = Chain(2, DIMS, (2, 2, 2), "generic", 0).mps()
    for call in (lambda: ftnn.compress(x, bonds), *(lambda m=m: m(bonds) for m in LAYERS.values())):
        with pytest.raises(ValueError, match=words.replace("max_bond", "(max|inner)_bond")):
            call()
    with pytest.raises(ValueError, match=words):
        ftnn.MPS.from_dense(x.to_dense(), DIMS, bonds)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(1, 40))
def test_bonds_are_cut_to_what_dims_allow(dims, bond):
    exact = [min(np.prod(dims[:k]), np.prod(dims[k:])) for k in range(len(dims) + 1)]
    assert cut_bonds(dims, None) == tuple(exact)
    assert cut_bonds(dims, bond)[1:-1] == tuple(np.minimum(exact, bond))[1:-1]
    assert ftnn.MPO.random(dims, [1] * len(dims), bond).bond_dims == cut_bonds(dims, bond)[1:-1]


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda x: ftnn.MPO.random((4,) * 40, (4,) * 40, 10**9), "bond_dim"),
        (lambda x: ftnn.MPO.random((10**6,) * 3, (10**6,) * 3, 4), "bond_dim"),
        (lambda x: ftnn.compress(wide(x)), "max_bond"),
        (lambda x: ftnn.compress(wide(x), 10**9, "direct"), "max_bond"),
        (lambda x: truncate(wide(x)), "max_bond"),
    ],
)
def test_what_cannot_fit_into_memory_is_told_before(call, argument):
    x = Chain(2, (4,) * 40, (2,) * 39, "generic", 0).mps()
    with pytest.raises(ValueError, match=rf"{argument} asks for .* (TB|PB|EB) of arrays, the larg"):
        call(x)


def wide(x):
    for n in range(13):
        x = ftnn.MPO.random(x.phys_dims, x.phys_dims, 16, seed=n) @ x
    return x


def test_a_huge_bond_is_no_matter_where_dims_are_small():
    x = Chain(2, (2,) * 6, (3,) * 5, "generic", 0).mps()
    np.testing.assert_array_equal(dense(ftnn.compress(x, 10**9)), dense(ftnn.compress(x)))
    assert ftnn.MPO.random((2,) * 3, (2,) * 3, 10**9).bond_dims == (4, 4)
    assert max(ftnn.MPS.from_dense(x.to_dense(), x.phys_dims, 10**9).bond_dims) <= 8
    check_memory([], "bond_dim")
