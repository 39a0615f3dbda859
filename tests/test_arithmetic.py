"""Arithmetic of chains: factors, sums, products, places, and what they show of themselves."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import OTHERS, Chain, assert_close, chains, dense, dense_operator, mpo, random_operator

import ftnn
from ftnn.arrays.backend import convert, to_numpy
from ftnn.truncation import METHODS

backends = st.sampled_from(["numpy", *OTHERS])
EXACT = [name for name, method in METHODS.items() if "exact" in method.claims]

SCALARS = {
    "int": 3,
    "float": -0.5,
    "float32": np.float32(1.5),
    "int64": np.int64(2),
    "bool": np.bool_(True),
    "array": np.array(2.5),
    "whole": np.array(2),
    "tensor": torch.tensor(0.25),
    "whole tensor": torch.tensor(2),
}


@given(chains(max_sites=5), backends, st.sampled_from(list(SCALARS)))
def test_every_kind_of_number_multiplies_from_both_sides(chain, backend, kind):
    x, factor = chain.mps(backend=backend), SCALARS[kind]
    expected = float(factor) * dense(x)
    assert_close((factor * x).to_dense(), expected, condition=1e4)
    assert_close((x * factor).to_dense(), expected, condition=1e4)
    assert_close((x / factor).to_dense(), dense(x) / float(factor), condition=1e4)
    assert_close(dense(ftnn.compress(x * factor)), expected, condition=1e4, scale=_size(x))
    double = x + x
    assert_close((factor * double).to_dense(), 2 * expected, condition=1e4)


def _size(x):
    return 10 * np.linalg.norm(dense(x)) + 1e-300


@pytest.mark.parametrize("method", EXACT)
@given(chains(max_sites=5, max_bond=4), backends, st.integers(0, 99))
def test_a_factor_for_every_sample(method, chain, backend, seed):
    x = chain.mps(backend=backend)
    values = np.random.default_rng(seed).uniform(0.5, 2.0, chain.batch)
    factors = convert(values, backend)
    W = mpo(random_operator(chain.dims, chain.dims, 2, seed), backend)
    lazy = (W @ (factors * x)) * factors - x / factors
    first = values[:, None] ** 2 * (dense(x) @ dense_operator(W.cores).T)
    expected = first - dense(x) / values[:, None]
    assert_close(lazy.to_dense(), expected, condition=1e5, scale=_size(x))
    condition = 1e5 * 2.3e-16 ** (METHODS[method].digits - 1.0)
    compressed = ftnn.compress(lazy, method=method)
    assert_close(dense(compressed), expected, condition=condition, scale=_size(x))


@given(chains(max_sites=4, kinds=("generic",)), st.booleans(), st.sampled_from(["float32", None]))
def test_gradients_flow_through_factors(chain, per_sample, dtype):
    x = chain.mps(backend="torch")
    shape = (chain.batch,) if per_sample else ()
    factor = torch.full(shape, 1.5, dtype=torch.float32 if dtype else None, requires_grad=True)
    y = ftnn.compress(factor * x + x)  # norm (1 + factor) |x|
    y.norm().sum().backward()
    norms = torch.as_tensor(np.linalg.norm(dense(x), axis=1))
    expected = norms if per_sample else norms.sum()
    assert_close(factor.grad, expected.to(factor.dtype), "float32", 1e3)
    factor.grad = None
    (x / factor).to_dense().sum().backward()
    sums = -torch.as_tensor(dense(x)).sum(1) / 1.5**2
    expected = sums if per_sample else sums.sum()
    assert_close(factor.grad, expected, "float32", 1e3, scale=np.linalg.norm(dense(x)) + 1)


def test_a_gradient_flows_through_a_factor_of_an_operator():
    W = mpo(random_operator((2, 3), (3, 2), 2, 0), "torch")
    factor = torch.tensor(2.0, requires_grad=True)
    for scaled in (factor * W, W * factor):
        assert_close(scaled.to_dense(), 2 * dense_operator(W.cores))
    (factor * W).to_dense().sum().backward()
    assert_close(factor.grad, W.to_dense().sum(), "float32", scale=10.0)
    assert_close((np.float64(2) * W).to_dense(), 2 * dense_operator(W.cores))
    assert_close((np.array(2.0) * W).to_dense(), 2 * dense_operator(W.cores))


@given(chains(max_sites=4), backends)
def test_in_place_operators_make_new_vectors(chain, backend):
    x = chain.mps(backend=backend)
    before, y = dense(x), x
    y *= 2.0
    y /= 4.0
    y += x
    y -= 0.25 * x
    assert_close(y.to_dense(), 1.25 * before, condition=1e4)
    np.testing.assert_array_equal(dense(x), before)
    assert_close(sum([x, x, x]).to_dense(), 3 * before, condition=1e4)


X = Chain(3, (2, 3), (2,), "generic", 0).mps()
W = ftnn.MPO.random((3, 2), (2, 3), 2, seed=0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: X @ W, TypeError, "cannot form MPS @ MPO: operators act from the left, as in W"),
        (lambda: (W @ X) @ W, TypeError, "cannot form Lazy @ MPO: operators act from the left"),
        (lambda: W @ W, TypeError, r"cannot form MPO @ MPO: .* as in V @ \(W @ x\), or .*V.apply"),
        (lambda: X @ X, TypeError, r"use x.inner\(y\) for the inner product of every sample"),
        (lambda: X * np.ones(4), ValueError, r"3 vectors by an array of shape \(4,\)"),
        (lambda: X / np.ones((3, 1)), ValueError, r"one for each vector: \(3,\)"),
        (lambda: 1j * X, TypeError, "real cores by the complex number 1j; convert the cores"),
        (lambda: X * np.array(1j), TypeError, "real cores by a complex array"),
        (lambda: X * np.ones(3, complex), TypeError, "real cores by a complex array"),
        (
            lambda: X * torch.tensor(1.0, requires_grad=True),
            TypeError,
            r"has a gradient on torch, but the vectors live on numpy; use x.to\('torch'\)",
        ),
        (lambda: X * [1.0, 2.0, 3.0], TypeError, "can't multiply sequence"),
        (lambda: X * "2", TypeError, "can't multiply sequence"),
        (lambda: X / X, TypeError, "unsupported operand"),
        (lambda: X + 1, TypeError, "unsupported operand"),
        (lambda: 1 + X, TypeError, "unsupported operand"),
        (lambda: W * X, TypeError, "unsupported operand"),
        (lambda: X / 0, ZeroDivisionError, "division by zero"),
        (lambda: X.to("tensorflow"), ValueError, "backend is 'tensorflow'; choose one of"),
        (lambda: X.to("numpy", "int8"), ValueError, "dtype is 'int8'; choose one of"),
        (lambda: X.to("numpy", device="cuda"), ValueError, "the numpy backend has only 'cpu'"),
        (
            lambda: X.to("torch", "complex64").to("torch", "float32"),
            ValueError,
            "cannot convert complex arrays to float32",
        ),
    ],
)
def test_what_cannot_be_combined_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_operators_are_multiplied_as_the_error_says():
    V = ftnn.MPO.random((2, 2), (3, 2), 3, seed=1)
    product = V.apply(W)
    assert isinstance(product, ftnn.MPO)
    assert_close(product.to_dense(), V.to_dense() @ W.to_dense(), condition=1e4)
    applied = ftnn.compress(V @ (W @ X))
    assert_close(ftnn.compress(product @ X).to_dense(), applied.to_dense(), condition=1e4)


# ---- places --------------------------------------------------------------------------------------


@given(
    chains(max_sites=5),
    backends,
    backends,
    st.sampled_from([None, "float32", "float64", "complex64", "complex128"]),
)
def test_states_and_operators_move(chain, source, target, dtype):
    x = chain.mps(backend=source)
    W = mpo(random_operator(chain.dims, chain.dims, 2, chain.seed), source)
    for one, plain in ((x, dense(x)), (W, dense_operator(W.cores))):
        before = [to_numpy(core).copy() for core in one.cores]
        moved = one.to(target, dtype)
        assert type(moved) is type(one)
        assert moved is not one
        assert moved.outer_inds() == one.outer_inds()
        assert moved.tags == one.tags
        for core, old in zip(moved.cores, before, strict=True):
            like = convert(old, target, dtype)
            assert type(core) is type(like)
            assert core.dtype == like.dtype
            np.testing.assert_array_equal(to_numpy(core), to_numpy(like))
        for core, old in zip(one.cores, before, strict=True):
            np.testing.assert_array_equal(to_numpy(core), old)
        assert_close(moved.to_dense(), plain, "float32" if dtype else "float64", 1e4)


def test_a_gradient_flows_through_a_move_within_torch():
    cores = [torch.ones(2, 1, 3, 1, requires_grad=True)]
    x = ftnn.MPS(cores).to("torch", "float64", "cpu")
    x.norm().sum().backward()
    assert_close(cores[0].grad, np.full((2, 1, 3, 1), 3**-0.5), "float32")


def test_names_of_a_moved_quimb_operator_stay():
    import quimb.tensor as qtn

    W = ftnn.MPO.from_quimb(qtn.MPO_ham_heis(3)).reindex({"k0": "mine"})
    assert "mine" in W.to("torch").outer_inds()


# ---- as a sequence of samples --------------------------------------------------------------------


@given(chains(max_sites=5), backends)
def test_the_length_is_the_batch(chain, backend):
    x = chain.mps(backend=backend)
    assert len(x) == chain.batch
    assert bool(x)
    samples = list(x.samples())
    assert len(samples) == chain.batch
    for n, sample in enumerate(samples):
        assert_close(sample.to_dense().reshape(-1), dense(x)[n], condition=1e4)
    # quimb's own methods iterate over tensors
    assert [tensor.inds for tensor in x] == [tensor.inds for tensor in x.tensors]
    assert len(x.arrays) == x.L


def test_parts_of_a_network_have_no_length_but_are_true():
    part = X.isel({"batch": 0})
    assert bool(part)
    assert len(list(part)) == 2
    with pytest.raises(TypeError, match="no batch index"):
        len(part)


# ---- what they show ------------------------------------------------------------------------------


def test_chains_say_what_they_are():
    assert (
        repr(X)
        == str(X)
        == ("MPS(batch=3, L=2, phys_dims=(2, 3), bond_dims=(2,), dtype=float64, backend=numpy)")
    )
    assert (
        repr(W.to("torch", "float32"))
        == str(W.to("torch", "float32"))
        == (
            "MPO(L=2, out_dims=(3, 2), in_dims=(2, 3), bond_dims=(2,), dtype=float32, "
            "backend=torch on cpu)"
        )
    )
    lazy = W @ (X + 0.5 * X) * (W @ X) * np.ones(3)
    assert repr(lazy) == (
        "Lazy(factors * (MPO @ MPS * MPO @ MPS) + factors * (MPO @ MPS * MPO @ MPS), batch=3, L=2, "
        "phys_dims=(3, 2), bond_dims=(32,), dtype=float64, backend=numpy)"
    )
    assert "... (8 terms)" in repr(sum([X] * 8))


def test_long_chains_are_short():
    long = Chain(2, (4,) * 100, (3, *[9] * 97, 2), "generic", 0).mps()
    assert repr(long) == (
        "MPS(batch=2, L=100, phys_dims=(4,) * 100, bond_dims=(3, 9, 9, ..., 9, 2), max_bond=9, "
        "dtype=float64, backend=numpy)"
    )
    assert long._repr_html_().count("<circle") == 23


@given(chains(max_sites=6), backends)
def test_notebooks_show_a_picture(chain, backend):
    x = chain.mps(backend=backend)
    W = mpo(random_operator(chain.dims, chain.dims, 2, 0), backend)
    for one, lines in ((x, 2 * x.L - 1), (W, 3 * x.L - 1)):
        html = one._repr_html_()
        assert html.count("<circle") == x.L
        assert html.count("<line") == lines
        assert repr(one) in html
    assert repr(W @ x) in (W @ x)._repr_html_()


def test_parts_of_a_network_show_themselves_as_quimb_does():
    for part in (X.select("I0"), X.isel({"batch": 0}), W.select("I0")):
        assert "tensors=" in repr(part)
        assert "tensors=" in part._repr_html_()


@pytest.mark.parametrize("change", [lambda t: t.H, lambda t: t.multiply(3.0), lambda t: t.copy()])
def test_lazy_networks_that_quimb_changed_are_not_compressed_as_they_were(change):
    dims = (2, 3, 2)
    x = ftnn.MPS.from_dense(np.arange(24.0).reshape(2, 12) + 1j, dims)
    lazy = x + 2.0 * x
    same = change(lazy)
    if np.allclose(same.to_dense(), lazy.to_dense()):
        assert np.allclose(ftnn.compress(same).to_dense(), lazy.to_dense())
    else:
        with pytest.raises(ValueError, match="changed after it was formed"):
            ftnn.compress(same)
