"""Laws of prune: what matters for the data stays, whatever its singular values."""

import numpy as np
import pytest
from growth_laws import (
    ENOUGH,
    arrays_of,
    assert_apart,
    assert_close,
    assert_same_function,
    assert_unchanged,
    make_network,
    moved,
    networks,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import Chain, dense, dense_operator

import ftnn
from ftnn.chains.terms import State, Term
from ftnn.growth import freeze, inflate, prune
from ftnn.growth.metric import cut_to, form, size, smallest
from ftnn.growth.weighed import WeighedOperator
from ftnn.nonlinear import KAN, Gated
from ftnn.truncation.direct import compress_direct

DIMS = (3, 3, 3)


def bare(cores, bonds):
    """Truncation of an operator by its singular values alone."""
    flat = tuple(core.reshape(1, core.shape[0], -1, core.shape[3]) for core in cores)
    found, _ = compress_direct((Term(State(flat)),), bonds, 0.0)
    shapes = [core.shape[1:3] for core in cores]
    return [c.reshape(c.shape[1], *s, c.shape[3]) for c, s in zip(found, shapes, strict=True)]


def output_error(cores, old, x):
    """Relative error of the outputs, by dense matrices."""
    a, b = dense_operator(cores), dense_operator(old)
    return np.linalg.norm((a - b) @ dense(x).T) / np.linalg.norm(b @ dense(x).T)


@settings(max_examples=20)
@given(networks(heads=("readout",)), st.sampled_from([1e-4, 0.1, 0.5]))
def test_errors_are_those_of_the_outputs_and_within_what_was_asked(case, rtol):
    model, chain = case
    before = arrays_of(model)
    result = prune(model, chain.mps(), rtol)
    assert_unchanged(model, before)
    assert_apart(model, result.model)
    assert result.model.num_params() <= model.num_params()
    assert max(result.errors.values()) <= rtol
    old, new = (m.layers[0].operators()["weight"] for m in (model, result.model))
    np.testing.assert_allclose(
        result.errors["0.weight"], output_error(new, old, chain.mps()), rtol=1e-4, atol=1e-7
    )
    for row in result.rows:
        operator = dict(_operators(result.model))[row.path, row.operator]
        assert operator[row.cut].shape[0] == row.after <= row.before


def _operators(model):
    for path, layer in model.walk():
        for name, cores in layer.operators().items():
            yield (path.rstrip("."), name), cores


def test_a_direction_that_no_input_excites_goes_first_however_large():
    """Three channels: one of singular value 100 reads an entry that is zero in all inputs."""
    rng = np.random.default_rng(0)
    dims = (4, 4)
    seen, other = (np.linalg.qr(rng.standard_normal((16, 2)))[0] for _ in range(2))
    seen, other = seen.reshape(2, 2, 2, 2, 2), other.reshape(2, 2, 2, 2, 2)
    first, second = np.zeros((1, 4, 4, 3)), np.zeros((3, 4, 4, 1))
    for n, value in enumerate((1.0, 0.8)):
        first[0, :2, :2, n] = value * seen[0, 0, n]
        second[n, :2, :2, 0] = other[0, 0, n]
    first[0, :, 3, 2], second[2, :, 0, 0] = 100.0, 1.0
    layer = ftnn.Linear(dims, dims, 3, ENOUGH, bias=False)
    layer.params |= {"weight.0": first, "weight.1": second}
    cores = [rng.standard_normal((20, 1, 4, 2)), rng.standard_normal((20, 2, 4, 1))]
    cores[0][:, :, 3] = 0.0
    x = ftnn.MPS(cores)
    result = prune(layer, x, rtol=1e-6)
    assert result.model.bond_dim == (2,)
    assert result.rows[0].discarded < 1e-12
    assert_close(result.model(x), layer(x))
    old = layer.operators()["weight"]
    for bond, factor in ((1, 2.0), (2, 1e6)):
        worse = output_error(bare(old, bond), old, x)
        cut = prune(layer, x, params=32 * bond).model
        assert cut.bond_dim == (bond,)
        assert worse > factor * output_error(cut.operators()["weight"], old, x)
    text = result.table().splitlines()
    assert text[0].split() == ["path", "weight", "cut", "before", "after", "discarded"]
    assert text[1].split()[:5] == ["-", "weight", "1", "3", "2"]


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(1, 4), st.integers(2, 4))
def test_the_error_is_below_that_of_bare_singular_values_at_equal_bonds(seed, rank, sites):
    """Of inputs in a small space, on average much below."""
    dims = (3,) * sites
    layer = moved(ftnn.Linear(dims, dims, 5, ENOUGH, bias=False, seed=seed), seed)
    rng = np.random.default_rng(seed)
    basis = Chain(rank, dims, (2,) * (sites - 1), "generic", seed).cores()
    x = ftnn.MPS([core[rng.integers(0, rank, 12)] for core in basis])
    old = layer.operators()["weight"]
    result = prune(layer, x, rtol=0.4)
    bonds = result.model.bond_dim
    own, other = (
        output_error(cores, old, x)
        for cores in (result.model.operators()["weight"], bare(old, bonds))
    )
    assert own <= other * 1.05 + 1e-9
    if sites == 2:  # a single cut
        assert own <= other * (1 + 1e-9) + 1e-9


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(2, 5), st.booleans())
def test_the_form_is_the_squared_size_of_the_outputs(seed, D, is_complex):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if is_complex else x

    L, R, x = draw(D, 4, 3), draw(D, 4, 3), draw(5, 3, 3)  # x[n, i, j] of two sites
    y = np.einsum("aoi,nic->naoc", L, x)  # the right site is an identity, its bond c
    left = np.einsum("naoc,nbod->nacbd", y.conj(), y)
    z = np.einsum("apj,jc->apc", R, np.eye(3))
    right = np.einsum("apc,bpd->acbd", z.conj(), z)[None].repeat(5, 0)
    K = form(left, right, np.zeros(5))
    X = draw(D, D)
    outputs = np.einsum("ab,aoi,bpj,nij->nop", X, L, R, x)
    np.testing.assert_allclose(size(K, X), np.linalg.norm(outputs) ** 2, rtol=1e-9)
    errors = [cut_to(K, r).error for r in range(1, D + 1)]
    assert errors[-1] == 0.0
    for r, error in enumerate(errors[:-1], 1):
        kept = np.diag((np.arange(D) < r).astype(float))
        assert error <= size(K, kept - np.eye(D)) / size(K, np.eye(D)) * (1 + 1e-9)
    found = smallest(K, 0.2)
    assert found.error <= 0.2
    np.testing.assert_allclose(
        size(K, found.left @ found.right - np.eye(D)) / size(K, np.eye(D)), found.error, atol=1e-9
    )


def test_what_was_inflated_is_found_again():
    model = make_network(["gated", "rms"], DIMS, 2, ENOUGH, 1)
    larger = inflate(model, bond_dim=5)
    chain = Chain(40, DIMS, (3, 3), "generic", 0)
    result = prune(larger, chain.mps(), rtol=1e-8)
    assert max(layer.operators()["weight"][1].shape[0] for layer in result.model.layers[::3]) <= 3
    assert result.model.layers[1].bond_dim == (2, 2)
    assert_same_function(result.model, model, chain)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_dtypes_backends_and_numbers_of_parameters(dtype):
    model = make_network(["residual"], DIMS, 4, ENOUGH, 1, "readout", dtype)
    chain = Chain(10, DIMS, (2, 2), "generic", 0)
    sizes = []
    for params in (model.num_params(), 700, 500):
        result = prune(model, chain.mps(dtype), params=params)
        sizes.append(result.model.num_params())
        assert sizes[-1] <= params
    assert sizes[0] == model.num_params() > sizes[1] > sizes[2] > 350
    assert {a.dtype.name for a in result.model.named_arrays().values()} == {dtype}
    torch_result = prune(model.to("torch"), chain.mps(dtype, "torch"), params=500)
    assert torch_result.model.num_params() == sizes[2]
    assert_close(
        torch_result.model(chain.mps(dtype, "torch")), result.model(chain.mps(dtype)), dtype
    )


def test_both_weights_of_a_gate_have_the_same_bonds():
    layer = moved(Gated(DIMS, DIMS, 4, ENOUGH, seed=2), 1)
    for k, core in enumerate(layer.operators()["A"]):
        layer.params[f"A.{k}"] = core * np.array([1.0, 0.0, 0.0, 0.0])[: core.shape[3]]
    x = Chain(10, DIMS, (2, 2), "generic", 0).mps()
    result = prune(layer, x, rtol=1e-9)
    assert [result.model.params[f"{name}.1"].shape for name in "AB"] == [(4, 3, 3, 4)] * 2
    assert_close(result.model(x), layer(x))


def test_hundred_sites_whose_vectors_are_out_of_range():
    dims = (2,) * 100
    layer = ftnn.Linear(dims, dims, 2, 4, bias=False)
    cores = [1e-5 * core for core in Chain(4, dims, (2,) * 99, "generic", 0).cores()]
    result = prune(layer, ftnn.MPS(cores), rtol=0.1)
    assert 0.0 < result.errors["weight"] <= 0.1
    zero = prune(layer, ftnn.MPS([0.0 * core for core in cores]), rtol=0.1)
    assert zero.model.bond_dim == (1,) * 99


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "rtol is None and params is None; give one of them"),
        ({"rtol": 0.1, "params": 100}, ValueError, "give one of them"),
        ({"rtol": 1.5}, ValueError, r"rtol is 1.5, expected a number in \[0, 1\)"),
        ({"params": 10}, ValueError, "params is 10, expected an integer of at least"),
        ({"params": 1e3}, ValueError, "params is 1000.0, expected an integer"),
        ({"rtol": 0.1, "where": "1"}, ValueError, "has no Linear, Readout, Gated of several sites"),
        ({"rtol": 0.1, "data": 3}, TypeError, r"data is a int, expected an ftnn\.MPS"),
    ],
)
def test_what_cannot_be_pruned_is_named(options, error, words):
    model = make_network(["kan"], DIMS, 2, 4, 0)
    data = options.pop("data", Chain(3, DIMS, (2, 2), "generic", 0).mps())
    with pytest.raises(error, match=words):
        prune(model, data, **options)


def test_frozen_layers_and_layers_without_bonds():
    x = Chain(3, DIMS, (2, 2), "generic", 0).mps()
    model = freeze(make_network([], DIMS, 2, 4, 0), "0.weight.1")
    with pytest.raises(ValueError, match="Linear '0' has frozen arrays, which cannot be cut"):
        prune(model, x, 0.1)
    assert prune(model, x, 0.1, where="1").model.layers[0].frozen == {"weight.1"}
    with pytest.raises(ValueError, match="the model has no Linear"):
        prune(KAN(DIMS), x, 0.1)


def test_shares_of_the_error_shrink_until_the_whole_is_within(monkeypatch):
    """Errors of several cuts may add up to more than their root sum of squares."""
    layer = moved(ftnn.Linear((2,) * 5, (2,) * 5, 4, 8, bias=False, seed=1), 1)
    x = Chain(6, (2,) * 5, (2,) * 4, "generic", 0).mps()
    swept, shares = WeighedOperator._swept, []

    def rough(self, share, bonds):
        shares.append(share)
        return swept(self, min(20.0 * share, 1.0), bonds)

    monkeypatch.setattr(WeighedOperator, "_swept", rough)
    assert prune(layer, x, rtol=0.05).errors["weight"] <= 0.05
    assert len(shares) > 1
    assert shares[-1] < shares[0]
