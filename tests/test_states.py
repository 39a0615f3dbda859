"""MPS, MPO and lazy networks as quimb objects, and their conversions."""

import matplotlib as mpl
import numpy as np
import pytest
import quimb.tensor as qtn
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import Chain, assert_close, chains, dense, dense_operator, mps, random_operator

import ftnn
from ftnn.training.module import TorchModule

mpl.use("agg")
dtypes = st.sampled_from(["float64", "complex128"])
backends = st.sampled_from(["numpy", "torch"])


@given(chains(), dtypes, backends)
def test_dense_norm_and_inner_agree_with_dense_vectors(chain, dtype, backend):
    x = chain.mps(dtype, backend)
    y = Chain(chain.batch, chain.dims, chain.bonds, "generic", 5).mps(dtype, backend)
    dx, dy = dense(x), dense(y)
    assert_close(x.to_dense(), dx)
    assert_close(x.norm(), np.linalg.norm(dx, axis=1), condition=1e5)
    inner = np.sum(dx.conj() * dy, axis=1)
    assert_close(
        x.inner(y), inner, condition=1e5, scale=1 + np.linalg.norm(dx) * np.linalg.norm(dy)
    )


@given(chains(), dtypes)
def test_round_trips(chain, dtype):
    x = chain.mps(dtype)
    for a, b in zip(x.cores, chain.cores(dtype), strict=True):
        assert (a == b).all()
    back = ftnn.MPS.from_quimb([x[n] for n in range(chain.batch)])
    assert_close(dense(back), dense(x))
    again = ftnn.MPS.from_dense(dense(x), chain.dims)
    assert_close(dense(again), dense(x), condition=1e4)
    copy = x.copy()
    assert isinstance(copy, ftnn.MPS)
    assert (copy.batch_size, copy.phys_dims, copy.bond_dims) == (
        chain.batch,
        chain.dims,
        chain.bonds,
    )
    assert_close(dense(copy), dense(x))
    assert_close(dense(x[0:1]), dense(x)[:1])


@given(chains(), dtypes)
def test_samples_are_quimb_states(chain, dtype):
    x = chain.mps(dtype)
    for n in range(chain.batch):
        state = x[n]
        assert type(state) is qtn.MatrixProductState
        assert_close(state.to_dense().ravel(), dense(x)[n])


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99), dtypes)
def test_operators(L, bond_dim, seed, dtype):
    rng = np.random.default_rng(seed)
    out, inn = (tuple(int(d) for d in rng.integers(1, 4, L)) for _ in range(2))
    w = ftnn.MPO(random_operator(out, inn, bond_dim, seed, dtype))
    assert isinstance(w, qtn.MatrixProductOperator)
    assert (w.L, w.out_dims, w.in_dims) == (L, out, inn)
    matrix = dense_operator(w.cores)
    assert_close(w.to_dense(), matrix)
    again = ftnn.MPO.from_dense(matrix, out, inn)
    assert_close(dense_operator(again.cores), matrix, condition=1e5)
    assert_close(w.copy().to_dense(), matrix)


def test_operators_of_quimb_are_taken_over():
    theirs = qtn.MPO_rand(4, 3, phys_dim=2, seed=0)
    ours = ftnn.MPO.from_quimb(theirs)
    assert_close(ours.to_dense(), theirs.to_dense())
    with pytest.raises(TypeError, match="expected a MatrixProductOperator"):
        ftnn.MPO.from_quimb(3)
    with pytest.raises(ValueError, match="cyclic"):
        ftnn.MPO.from_quimb(qtn.MPO_rand(4, 3, cyclic=True, seed=0))


def test_scalars_of_numpy_multiply_from_both_sides():
    x = Chain(2, (2, 3), (2,), "generic", 0).mps()
    assert_close((np.float64(2.0) * x).to_dense(), 2 * dense(x))
    assert_close((x * np.float32(2.0)).to_dense(), 2 * dense(x))
    assert_close((-x / 4).to_dense(), -dense(x) / 4)


def test_random_operator_has_the_stated_variance():
    entries = [ftnn.MPO.random((3,) * 4, (2,) * 4, 6, seed=s).to_dense() for s in range(200)]
    assert np.mean(np.square(entries)) == pytest.approx(1 / 16, rel=0.1)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_quimb_contracts_and_draws_networks(dtype):
    chain = Chain(3, (2, 3, 2), (2, 2), "generic", 0)
    x = chain.mps(dtype)
    w = ftnn.MPO(random_operator((2, 2, 2), chain.dims, 2, 0, dtype))
    lazy = w @ x + 2.0 * (w @ (x * x))
    assert isinstance(lazy, qtn.TensorNetwork)
    assert lazy.num_tensors == 2 * 3 + 3 * 3 + 1  # and the factors
    expected = (dense(x) + 2 * dense(x) ** 2) @ dense_operator(w.cores).T
    tensor = lazy.contract()
    assert tensor.inds == ("batch", "k0", "k1", "k2")
    assert_close(tensor.data.reshape(3, -1), expected, condition=1e4)
    overlap = (x.H.reindex({"batch": "other"}) & x).contract(all, output_inds=("other", "batch"))
    assert_close(overlap.data, dense(x).conj() @ dense(x).T, condition=1e4)
    for network in (x, w, lazy):
        figure = network.draw(return_fig=True, color=["I0", "I1", "I2"])
        assert figure is not None
        mpl.pyplot.close(figure)


@pytest.mark.parametrize("length", [1, 2])
def test_short_chains_keep_their_batch_index(length):
    chain = Chain(4, (3,) * length, (2,) * (length - 1), "generic", 1)
    x = chain.mps()
    assert_close(x.to_dense(), dense(x))
    assert_close((x + x).to_dense(), 2 * dense(x))
    assert_close((x * x).to_dense(), dense(x) ** 2)


def test_a_batch_of_one_broadcasts():
    x, y = (Chain(b, (2, 3), (2,), "generic", b).mps() for b in (4, 1))
    assert_close(ftnn.compress(x + y).to_dense(), dense(x) + dense(y))
    assert_close((x * y).to_dense(), dense(x) * dense(y))


GOOD = [np.ones((2, 1, 2, 3)), np.ones((2, 3, 2, 1))]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ftnn.MPS([]), ValueError, "cores is empty"),
        (lambda: ftnn.MPS([np.ones((2, 1, 2, 1), int)]), TypeError, "int64.*convert"),
        (lambda: ftnn.MPS([np.ones((2, 2, 1))]), ValueError, "cores.0. has shape"),
        (lambda: ftnn.MPS([np.ones((0, 1, 2, 1))]), ValueError, "batch is empty"),
        (lambda: ftnn.MPS([GOOD[0], np.ones((3, 3, 2, 1))]), ValueError, "batch 3"),
        (lambda: ftnn.MPS([GOOD[0], np.ones((2, 4, 2, 1))]), ValueError, "left bond 4"),
        (lambda: ftnn.MPS(GOOD[:1]), ValueError, "right bond 3"),
        (lambda: ftnn.MPS(["a"]), TypeError, "cores.0."),
        (lambda: ftnn.MPS.from_dense(np.ones((3, 64)), (4, 4, 5)), ValueError, "multiply to 80"),
        (lambda: ftnn.MPS.from_dense(np.full((3, 4), np.nan), (2, 2)), ValueError, "NaN"),
        (lambda: ftnn.MPS.from_dense(np.ones((0, 4)), (2, 2)), ValueError, "at least one"),
        (lambda: ftnn.MPS.from_dense(np.ones((2, 4), int), (2, 2)), TypeError, "int64"),
        (lambda: ftnn.MPS.from_dense(np.ones((2, 4)), (2, -2)), ValueError, "phys_dims"),
        (lambda: ftnn.MPS.from_dense(np.ones((2, 4)), (2, 2), 0), ValueError, "max_bond is 0"),
        (lambda: ftnn.MPS.from_quimb([]), ValueError, "states is empty"),
        (lambda: ftnn.MPS.from_quimb([3]), TypeError, "states.0. is a int"),
        (lambda: ftnn.MPO([np.ones((1, 2, 2))]), ValueError, "left, out, in, right"),
        (lambda: ftnn.MPO.random((2, 2), (2,), 2), ValueError, "both need the same"),
        (lambda: ftnn.MPO.random((2,), (2,), 0), ValueError, "bond_dim is 0"),
        (lambda: ftnn.MPO.random((2,), (3,), 1) @ ftnn.MPS(GOOD), ValueError, "in_dims"),
        (lambda: ftnn.MPS(GOOD) + ftnn.MPS([np.ones((2, 1, 2, 1))]), ValueError, "phys_dims"),
        (
            lambda: (
                ftnn.MPS(GOOD) * ftnn.MPS(GOOD)[:1]
                + ftnn.MPS([g[[0, 0, 0]] for g in [np.ones((1, 1, 2, 1)), np.ones((1, 1, 2, 1))]])
            ),
            ValueError,
            "batches of 2 and 3",
        ),
        (lambda: ftnn.compress("x"), TypeError, "expected an MPS"),
        (
            lambda: ftnn.MPS([GOOD[0], torch.ones(2, 3, 2, 1)]),
            ValueError,
            "cores mix numpy float64",
        ),
        (lambda: ftnn.MPS(GOOD) + mps(GOOD, "torch"), ValueError, "operands mix numpy float64 and"),
        (
            lambda: ftnn.MPO.random((2, 2), (2, 2), 2, seed=0) @ mps(GOOD, "torch"),
            ValueError,
            "operands mix",
        ),
        (
            lambda: ftnn.MPS(GOOD) + ftnn.MPS([g.astype("float32") for g in GOOD]),
            ValueError,
            "numpy float32 and numpy float64",
        ),
        (lambda: 1j * ftnn.MPS(GOOD), TypeError, "convert the cores to complex64"),
        (lambda: ftnn.MPS(GOOD).inner(3), TypeError, "expected an MPS"),
        (lambda: ftnn.MPS.from_dense(np.ones((2, 4)), (2.5, 2)), TypeError, "sequence of integers"),
        (lambda: ftnn.save(3, "nowhere"), TypeError, "expected an ftnn.Layer"),
        (lambda: TorchModule(3), TypeError, "expected an ftnn.Layer"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_huge_dense_is_refused():
    x = ftnn.MPS([np.ones((1, 1, 4, 1))] * 40)
    with pytest.raises(ValueError, match="to_dense would form"):
        x.to_dense()


def test_torch_cores_stay_on_torch():
    x = mps(Chain(2, (2, 2), (2,), "generic", 0).cores(), "torch")
    assert isinstance(ftnn.compress(2.0 * x, 1).cores[0], torch.Tensor)
