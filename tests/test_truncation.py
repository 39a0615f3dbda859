"""Truncation as laws: exactness, batching, gauge, padding, optimality, gradients, long chains."""

import itertools
from unittest import mock

import numpy as np
import pytest
import quimb.tensor as qtn
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from laws import (
    KINDS,
    OTHERS,
    Chain,
    assert_close,
    chains,
    dense,
    dense_operator,
    insert_gauges,
    mpo,
    mps,
    pad_bonds,
    random_operator,
)

import ftnn
from ftnn.backend import to_numpy
from ftnn.chain import Apply, State, Term
from ftnn.linalg import orthonormalize, test_matrices
from ftnn.truncation.src import compress_src

backends = st.sampled_from(["numpy", "torch"])
dtypes = st.sampled_from(["float32", "float64", "complex64", "complex128"])
methods = st.sampled_from(["src", "direct"])
out_dim = st.integers(1, 4)


def out_dims_of(chain, seed):
    return tuple(int(d) for d in np.random.default_rng(seed).integers(1, 5, chain.L))


@given(chains(), backends, dtypes, methods, st.integers(0, 99))
def test_law_4_exact_bond_is_exact(chain, backend, dtype, method, seed):
    x = chain.mps(dtype, backend)
    y = Chain(chain.batch, chain.dims, chain.bonds, "generic", seed).mps(dtype, backend)
    out = out_dims_of(chain, seed)
    w_cores = random_operator(out, chain.dims, 3, seed, dtype)
    v_cores = random_operator(chain.dims, out, 2, seed + 2, dtype)
    w, v = mpo(w_cores, backend), mpo(v_cores, backend)
    dx, dy, dw, dv = dense(x), dense(y), dense_operator(w_cores), dense_operator(v_cores)
    cases = [
        (x + 0.0 * y, dx),
        (w @ x, dx @ dw.T),
        (x + y, dx + dy),
        (x * y, dx * dy),
        (x - 2.0 * y, dx - 2 * dy),
        (v @ (w @ x) + (x * y) / 2.0, dx @ dw.T @ dv.T + dx * dy / 2),
        (w @ (x * y), (dx * dy) @ dw.T),
    ]
    for lazy, expected in cases:
        scale = max(np.linalg.norm(expected), np.linalg.norm(dx), np.linalg.norm(dy))
        assert_close(dense(ftnn.compress(lazy, method=method)), expected, dtype, 1e4, scale)
        assert_close(lazy.to_dense(), expected, dtype, 1e4, scale)


@given(chains(max_batch=4), backends, methods, st.integers(1, 4))
def test_law_1_batched_is_stacked(chain, backend, method, max_bond):
    x = chain.mps(backend=backend)
    w = mpo(random_operator(chain.dims, chain.dims, 2, chain.seed), backend)
    together = dense(ftnn.compress(w @ x + x, max_bond, method))
    for n in range(chain.batch):
        single = x[n : n + 1]
        alone = dense(ftnn.compress(w @ single + single, max_bond, method))
        assert_close(together[n : n + 1], alone, condition=1e6, scale=1 + np.linalg.norm(alone))


@given(chains(kinds=("generic",)), backends, st.integers(1, 4))
def test_law_2_src_output_cores_do_not_depend_on_the_gauge(chain, backend, max_bond):
    # of the state and of the weight: the sketch must be a contraction of the product tensor
    cores, weights = chain.cores(), random_operator(chain.dims, chain.dims, 2, chain.seed)
    flat = [w.reshape(1, w.shape[0], -1, w.shape[3]) for w in weights]
    regauged = [g.reshape(w.shape) for g, w in zip(insert_gauges(flat, 1), weights, strict=True)]
    plain = ftnn.compress(mpo(weights, backend) @ mps(cores, backend), max_bond)
    gauged_state = mps(insert_gauges(cores, chain.seed), backend)
    for lazy in (mpo(weights, backend) @ gauged_state, mpo(regauged, backend) @ gauged_state):
        gauged = ftnn.compress(lazy, max_bond)
        for a, b in zip(plain.cores, gauged.cores, strict=True):  # cores, not only tensors
            assert_close(a, b, condition=1e8)


@given(chains(kinds=("generic", "padded", "product", "deficient", "zero")), backends, methods)
def test_law_3_zero_padding_changes_nothing(chain, backend, method):
    cores = chain.cores()
    w = mpo(random_operator(chain.dims, chain.dims, 2, chain.seed), backend)
    plain = dense(ftnn.compress(w @ mps(cores, backend), 3, method))
    padded = dense(ftnn.compress(w @ mps(pad_bonds(cores), backend), 3, method))
    assert_close(padded, plain, condition=1e6, scale=1 + np.linalg.norm(plain))


@given(chains(kinds=("padded", "product")), backends)
def test_directions_beyond_the_rank_are_exact_zeros(chain, backend):
    cores = chain.cores()
    plain = ftnn.compress(mps(cores, backend), 5)
    padded = ftnn.compress(mps(pad_bonds(cores), backend), 5)
    for a, b in zip(plain.cores, padded.cores, strict=True):
        a, b = to_numpy(a), to_numpy(b)
        left, right = min(a.shape[1], b.shape[1]), min(a.shape[3], b.shape[3])
        assert_close(b[:, :left, :, :right], a[:, :left, :, :right], condition=1e6)
        assert not b[:, left:].any()
        assert not b[..., right:].any()


@given(chains(min_sites=2, kinds=("generic",)), methods, st.integers(1, 3))
def test_law_5_error_against_the_optimum(chain, method, max_bond):
    # Every bond of the result is at least as good as a one-bond sketch; the sum of the optimal
    # one-bond errors bounds the best MPS from below by 1/sqrt(L-1) of it. A sketch without
    # oversampling is within a modest factor of it nearly always; 100 would show a wrong sweep.
    x = chain.mps()
    vectors = dense(x)
    compressed = ftnn.compress(x, max_bond, method)
    error = np.linalg.norm(vectors - dense(compressed), axis=1)
    for n, vector in enumerate(vectors):
        tails = []
        for cut in range(1, chain.L):
            s = np.linalg.svd(vector.reshape(int(np.prod(chain.dims[:cut])), -1), compute_uv=False)
            tails.append(np.sum(s[max_bond:] ** 2))
        optimal = np.sqrt(sum(tails))
        factor = 1.0 if method == "direct" else 100.0
        assert error[n] <= factor * optimal * (1 + 1e-8) + 1e-12 * np.linalg.norm(vector)


@given(chains(min_sites=2, kinds=("generic",)), st.integers(1, 3))
def test_src_is_an_orthogonal_projection(chain, max_bond):
    # |T - C|^2 = |T|^2 - |C|^2, on which error estimates rest
    x = chain.mps()
    c = dense(ftnn.compress(x, max_bond))
    t = dense(x)
    left = np.linalg.norm(t - c, axis=1) ** 2
    right = np.linalg.norm(t, axis=1) ** 2 - np.linalg.norm(c, axis=1) ** 2
    assert_close(left, right, condition=1e4, scale=np.linalg.norm(t) ** 2)


@given(chains(kinds=("generic", "repeated")), dtypes, methods, st.integers(1, 4))
def test_law_6_backends_agree(chain, dtype, method, max_bond):
    w_cores = random_operator(chain.dims, chain.dims, 2, chain.seed, dtype)
    outs = []
    for backend in ("numpy", *OTHERS):
        x = chain.mps(dtype, backend)
        outs.append(dense(ftnn.compress(mpo(w_cores, backend) @ x, max_bond, method, seed=3)))
    for other in outs[1:]:
        assert_close(other, outs[0], dtype, 1e5, scale=1e-3 + np.linalg.norm(outs[0]))


def src_of(w_cores, cores, max_bond, omegas):
    return compress_src((Term(Apply(tuple(w_cores), State(tuple(cores)))),), omegas, max_bond)


def torch_problem(chain, max_bond, dtype=torch.float64):
    w = [torch.tensor(c) for c in random_operator(chain.dims, chain.dims, 2, chain.seed)]
    x = [torch.tensor(c) for c in chain.cores()]
    omegas = tuple(torch.tensor(o).to(dtype) for o in test_matrices(chain.dims, max_bond, 1))
    return (
        [a.to(dtype).requires_grad_() for a in w],
        [a.to(dtype).requires_grad_() for a in x],
        omegas,
    )


@given(chains(kinds=KINDS), st.integers(1, 5), st.sampled_from([torch.float32, torch.float64]))
def test_law_7_gradients_are_finite_for_every_input(chain, max_bond, dtype):
    w, x, omegas = torch_problem(chain, max_bond, dtype)
    cores = src_of(w, x, max_bond, omegas)
    loss = sum(
        (core * torch.linspace(-1, 1, core.numel(), dtype=dtype).view_as(core)).sum()
        for core in cores
    )
    for gradient in torch.autograd.grad(loss, [*w, *x], allow_unused=True):
        assert gradient is None or bool(torch.isfinite(gradient).all())


@given(chains(min_sites=2, max_sites=4, kinds=("generic",), max_batch=2), st.integers(1, 3))
def test_law_7_gradients_of_the_cores_equal_finite_differences(chain, max_bond):
    w, x, omegas = torch_problem(chain, max_bond)
    # the map is smooth where the sketches are well conditioned; leave out the few that are not
    smallest = []

    def watched(y, magnitude):
        unit = y.detach() / y.detach().norm(dim=1, keepdim=True)
        smallest.append(float(torch.linalg.svdvals(unit).min()))
        return orthonormalize(y, magnitude)

    with mock.patch("ftnn.truncation.src.orthonormalize", watched):
        src_of(w, x, max_bond, omegas)
    assume(min(smallest) > 0.02)
    n = len(w)
    assert torch.autograd.gradcheck(
        lambda *a: src_of(a[:n], a[n:], max_bond, omegas), (*w, *x), atol=1e-5, rtol=1e-4
    )


@given(st.integers(2, 6), st.integers(1, 3), st.integers(2, 5), st.integers(0, 99))
def test_quimb_issue_355_padded_product_states_have_correct_gradients(L, batch, padded, seed):
    # zero-padded product states through an MPO and an exact compression: the derivative of a
    # linear functional of the result must be that of the dense computation
    chain = Chain(batch, (2,) * L, (padded,) * (L - 1), "product", seed)
    w, x, omegas = torch_problem(chain, 32)
    target = torch.tensor(np.random.default_rng(seed).standard_normal((batch, 2**L)))

    def full(cores):
        out = cores[0][:, 0]
        for core in cores[1:]:
            out = torch.einsum("bxl,blpr->bxpr", out.flatten(1, -2), core)
        return out.flatten(1)

    compressed = full(src_of(w, x, 32, omegas))
    products = [
        torch.einsum("loir,bxiy->blxory", a, c).flatten(1, 2).flatten(-2)
        for a, c in zip(w, x, strict=True)
    ]
    reference = full(products)
    assert_close(compressed.detach(), reference.detach(), condition=1e4)
    got = torch.autograd.grad((compressed * target).sum(), w)
    want = torch.autograd.grad((reference * target).sum(), w)
    scale = max(float(g.norm()) for g in want)
    for a, b in zip(got, want, strict=True):
        assert bool(torch.isfinite(a).all())
        assert_close(a, b, condition=1e9, scale=scale)


def test_quimb_itself_gives_nan_there():
    # the case is real: if quimb mends it, this reminder can go
    psi = qtn.MPS_product_state([np.array([1.0, 0.5])] * 4)
    psi.expand_bond_dimension(4)
    w = qtn.MPO_rand(4, 2, seed=1)
    data = [torch.tensor(t.data, requires_grad=True) for t in w]
    w = w.copy()
    for tensor, array in zip(w, data, strict=True):
        tensor.modify(data=array)
    psi.apply_to_arrays(torch.tensor)
    out = w.apply(psi)
    out.compress(max_bond=4)
    grads = torch.autograd.grad(sum(t.data.sum() for t in out), data)
    assert any(not bool(torch.isfinite(g).all()) for g in grads)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_law_9_thousand_sites_in_float32(backend, scale):
    rng = np.random.default_rng(0)
    L = 1000
    edges = [1] + [3] * (L - 1) + [1]
    cores = [
        (scale * rng.standard_normal((2, a, 2, b))).astype("float32")
        for a, b in itertools.pairwise(edges)
    ]
    w = [c.astype("float32") for c in ftnn.MPO.random((2,) * L, (2,) * L, 2, seed=1).cores]
    x = mps(cores, backend)
    y = ftnn.compress(mpo(w, backend) @ x, 6)  # exact bond
    for core in y.cores:
        core = to_numpy(core)
        assert np.isfinite(core).all()
        assert np.abs(core).max() < 1e6
        assert (np.linalg.norm(core.reshape(2, -1), axis=1) > 1e-6).all()
    exact = mps([c.astype("float64") for c in cores])
    merged = ftnn.compress(mpo([c.astype("float64") for c in w]) @ exact, 6, "direct")
    assert_close(to_numpy(y.log_norm()).astype("float64"), merged.log_norm(), "float32", 100)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("scales", [(1e-5, 1e-5), (1e5, 1e5), (1.0, 1e-3), (1e3, 1e-2)])
def test_the_scale_of_a_sum_may_vary_along_the_chain(backend, scales):
    # the left half of each term is scaled per site, the right half back: the tensors are the same
    chains_ = [Chain(2, (3,) * 6, (4,) * 5, "generic", seed) for seed in (0, 1)]
    scaled = [
        [core * np.float32(s if k < 3 else 1 / s) for k, core in enumerate(c.cores("float32"))]
        for c, s in zip(chains_, scales, strict=True)
    ]
    total = ftnn.compress(mps(scaled[0], backend) + mps(scaled[1], backend))
    expected = sum(dense(c.mps()) for c in chains_)
    assert_close(dense(total), expected.astype("float32"), "float32", 1e3)


def test_law_9_same_seed_same_result():
    chain = Chain(3, (3,) * 5, (4,) * 4, "generic", 0)
    a, b, c = (ftnn.compress(chain.mps(), 2, seed=s) for s in (5, 5, 6))
    assert all((p == q).all() for p, q in zip(a.cores, b.cores, strict=True))
    assert not np.allclose(dense(a), dense(c))


def test_agrees_with_quimb_on_each_sample():
    chain = Chain(3, (3,) * 6, (5,) * 5, "generic", 0)
    x = chain.mps()
    w = ftnn.MPO.random((2,) * 6, (3,) * 6, 3, seed=1)
    y = ftnn.compress(w @ x, 4, "direct")
    for n in range(3):
        state = qtn.tensor_network_1d_compress(
            w.apply(x[n]), max_bond=4, cutoff=0.0, method="direct"
        )
        assert_close(dense(y)[n], state.to_dense().ravel(), condition=1e5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_bond": 0}, "max_bond is 0"),
        ({"method": "magic"}, "choose one of"),
        ({"rtol": 0.1}, "takes no rtol"),
        ({"rtol": -1.0, "method": "direct"}, "rtol is -1.0"),
    ],
)
def test_wrong_options_are_named(arguments, words):
    x = Chain(2, (2, 2), (2,), "generic", 0).mps()
    with pytest.raises(ValueError, match=words):
        ftnn.compress(x, **arguments)


def test_rtol_of_direct_is_kept_and_used():
    x = Chain(3, (4,) * 5, (8,) * 4, "generic", 0).mps()
    y = ftnn.compress(x, method="direct", rtol=0.3)
    error = np.linalg.norm(dense(x) - dense(y), axis=1) / np.linalg.norm(dense(x), axis=1)
    assert (error <= 0.3).all()
    assert sum(y.bond_dims) < sum(x.bond_dims)
