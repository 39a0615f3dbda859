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
    EPS,
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
from ftnn.arrays.backend import to_numpy
from ftnn.arrays.orthonormal import orthonormalize
from ftnn.arrays.sketches import test_matrices
from ftnn.chains.terms import Apply, State, Term, extend_overlap
from ftnn.truncation import METHODS
from ftnn.truncation.src import compress_src
from ftnn.truncation.sweep import output_bonds

backends = st.sampled_from(["numpy", "torch"])
dtypes = st.sampled_from(["float32", "float64", "complex64", "complex128"])
out_dim = st.integers(1, 4)


def claiming(claim):
    """Run a test for every method that claims a law, as METHODS declares."""
    names = [name for name, method in METHODS.items() if claim in method.claims]
    assert names
    return pytest.mark.parametrize("method", names)


def lost_digits(method, dtype):
    """Factor by which a method that works from squares is less accurate."""
    if METHODS[method].digits == 1.0 or dtype in ("float32", "complex64"):
        return 1.0  # single precision is worked on in double precision inside
    return EPS[dtype] ** (METHODS[method].digits - 1.0)


def out_dims_of(chain, seed):
    return tuple(int(d) for d in np.random.default_rng(seed).integers(1, 5, chain.L))


def drawn_sums(chain, backend, dtype, seed):
    """Yield a lazy network of every kind with its dense value and the scale of its rounding."""
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
        ((w @ x) * (w @ y), (dx @ dw.T) * (dy @ dw.T)),
    ]
    for lazy, expected in cases:
        yield lazy, expected, max(np.linalg.norm(a) for a in (expected, dx, dy))


@claiming("width")
@given(chains(max_sites=8, max_bond=4), backends, dtypes, st.integers(0, 99))
def test_law_4_joint_bond_is_exact(method, chain, backend, dtype, seed):
    condition = 1e4 * lost_digits(method, dtype)
    for lazy, expected, scale in drawn_sums(chain, backend, dtype, seed):
        assert_close(dense(ftnn.compress(lazy, method=method)), expected, dtype, condition, scale)
        assert_close(lazy.to_dense(), expected, dtype, 1e4, scale)


@claiming("exact")
@given(chains(max_sites=8, max_bond=4), backends, dtypes, st.integers(0, 99))
def test_law_4_exact_rank_is_exact(method, chain, backend, dtype, seed):
    condition = 1e4 * lost_digits(method, dtype)
    for lazy, expected, scale in drawn_sums(chain, backend, dtype, seed):
        rank = max(output_bonds(lazy.terms, None))
        found = ftnn.compress(lazy, rank, method)
        assert_close(dense(found), expected, dtype, condition, scale)


@claiming("batched")
@given(chains(max_batch=4, kinds=("generic", "padded", "repeated")), backends, st.integers(1, 4))
def test_law_1_batched_is_stacked(method, chain, backend, max_bond):
    x = chain.mps(backend=backend)
    w = mpo(random_operator(chain.dims, chain.dims, 2, chain.seed), backend)
    together = dense(ftnn.compress(w @ x + x, max_bond, method))
    for n in range(chain.batch):
        single = x[n : n + 1]
        alone = dense(ftnn.compress(w @ single + single, max_bond, method))
        assert_close(together[n : n + 1], alone, condition=1e8, scale=1 + np.linalg.norm(alone))


def regauged(cores, weights, seed):
    """The same state and the same operator, in other gauges."""
    flat = [w.reshape(1, w.shape[0], -1, w.shape[3]) for w in weights]
    other = insert_gauges(flat, seed)
    return insert_gauges(cores, seed), [
        g.reshape(w.shape) for g, w in zip(other, weights, strict=True)
    ]


@claiming("gauge")
@given(chains(kinds=("generic",)), backends, st.integers(1, 4))
def test_law_2_output_does_not_depend_on_the_gauge(method, chain, backend, max_bond):
    cores, weights = chain.cores(), random_operator(chain.dims, chain.dims, 2, chain.seed)
    found = []
    for x, w in ((cores, weights), regauged(cores, weights, chain.seed)):
        x = mps(x, backend)
        found.append(dense(ftnn.compress(mpo(w, backend) @ x + x, max_bond, method)))
    assert_close(found[1], found[0], condition=1e9)


@claiming("cores")
@given(chains(kinds=("generic",)), backends, st.integers(1, 4))
def test_law_2_output_cores_do_not_depend_on_the_gauge(method, chain, backend, max_bond):
    # of the state and of the weight: the sketch must be a contraction of the product tensor
    cores, weights = chain.cores(), random_operator(chain.dims, chain.dims, 2, chain.seed)
    other_cores, other_weights = regauged(cores, weights, chain.seed)
    plain = ftnn.compress(mpo(weights, backend) @ mps(cores, backend), max_bond, method)
    for w in (weights, other_weights):
        gauged = ftnn.compress(mpo(w, backend) @ mps(other_cores, backend), max_bond, method)
        for a, b in zip(plain.cores, gauged.cores, strict=True):  # cores, not only tensors
            assert_close(a, b, condition=1e8)


@claiming("padding")
@given(chains(kinds=("generic", "padded", "product", "deficient", "zero")), backends)
def test_law_3_zero_padding_changes_nothing(method, chain, backend):
    cores = chain.cores()
    w = mpo(random_operator(chain.dims, chain.dims, 2, chain.seed), backend)
    plain = dense(ftnn.compress(w @ mps(cores, backend), 3, method))
    padded = dense(ftnn.compress(w @ mps(pad_bonds(cores), backend), 3, method))
    assert_close(padded, plain, condition=1e8, scale=1 + np.linalg.norm(plain))


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


@claiming("optimal")
@given(chains(min_sites=2, kinds=("generic",)), st.integers(1, 3))
def test_law_5_error_against_the_optimum(method, chain, max_bond):
    # The root of the sum of the best squared errors of all cuts bounds direct compression from
    # above, and sqrt(L - 1) times the error of the best MPS.
    x = chain.mps()
    w = ftnn.MPO(random_operator(chain.dims, chain.dims, 2, chain.seed))
    vectors = (w @ x).to_dense()
    error = np.linalg.norm(vectors - dense(ftnn.compress(w @ x, max_bond, method)), axis=1)
    for n, vector in enumerate(vectors):
        tails = []
        for cut in range(1, chain.L):
            s = np.linalg.svd(vector.reshape(int(np.prod(chain.dims[:cut])), -1), compute_uv=False)
            tails.append(np.sum(s[max_bond:] ** 2))
        optimal = np.sqrt(sum(tails)) * (1 + 1e-7)
        rounding = 1e4 * EPS["float64"] * lost_digits(method, "float64")
        limit = METHODS[method].factor * optimal + rounding * np.linalg.norm(vector)
        assert error[n] <= limit


@claiming("tolerance")
@given(
    chains(min_sites=2, max_sites=6, max_bond=5, kinds=("generic", "deficient", "padded")),
    st.sampled_from([0.01, 0.04, 0.2, 0.5]),
    st.booleans(),
)
def test_law_5_error_keeps_to_rtol(method, chain, rtol, product):
    x = chain.mps()
    w = ftnn.MPO(random_operator(chain.dims, chain.dims, 3, chain.seed))
    lazy = (w @ x) if product else (x * x + 0.1 * x)
    vectors = lazy.to_dense()
    error = np.linalg.norm(vectors - dense(ftnn.compress(lazy, method=method, rtol=rtol)), axis=1)
    slack = 1.0 if METHODS[method].error == "exact" else 3.0
    rounding = 1e4 * EPS["float64"] * lost_digits(method, "float64")
    assert (error <= (slack * rtol + rounding) * np.linalg.norm(vectors, axis=1)).all()


@given(chains(min_sites=2, kinds=("generic",)), st.sampled_from(sorted(METHODS)), st.integers(1, 3))
def test_every_method_is_an_orthogonal_projection(chain, method, max_bond):
    # |T - C|^2 = |T|^2 - |C|^2, on which error estimates rest
    x = chain.mps()
    c = dense(ftnn.compress(x, max_bond, method))
    t = dense(x)
    left = np.linalg.norm(t - c, axis=1) ** 2
    right = np.linalg.norm(t, axis=1) ** 2 - np.linalg.norm(c, axis=1) ** 2
    assert_close(left, right, condition=1e4, scale=np.linalg.norm(t) ** 2)


@claiming("backends")
@given(
    chains(kinds=("generic", "repeated")), dtypes, st.integers(1, 4), st.sampled_from([0.0, 0.2])
)
def test_law_6_backends_agree(method, chain, dtype, max_bond, rtol):
    w_cores = random_operator(chain.dims, chain.dims, 2, chain.seed, dtype)
    outs = []
    for backend in ("numpy", *OTHERS):
        x = chain.mps(dtype, backend)
        lazy = mpo(w_cores, backend) @ x
        outs.append(dense(ftnn.compress(lazy, max_bond, method, rtol, seed=3)))
    condition = 1e5 * lost_digits(method, dtype)
    for other in outs[1:]:
        assert_close(other, outs[0], dtype, condition, scale=1e-3 + np.linalg.norm(outs[0]))


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


def method_of(method, w_cores, cores, max_bond):
    terms = (
        Term(Apply(tuple(w_cores), State(tuple(cores)))),
        Term(State(tuple(cores)), 0.5),
    )
    return METHODS[method](terms, max_bond, 0.0, 1)[0]


def torch_dense(cores):
    out = cores[0][:, 0]
    for core in cores[1:]:
        out = torch.einsum("bxl,blpr->bxpr", out.flatten(1, -2), core)
    return out.flatten(1)


@claiming("gradients")
@given(
    chains(kinds=KINDS, max_sites=6),
    st.integers(1, 5),
    st.sampled_from([torch.float32, torch.float64, torch.complex128]),
)
def test_law_7_gradients_are_finite_for_every_input(method, chain, max_bond, dtype):
    w, x, _ = torch_problem(chain, max_bond, dtype)
    cores = method_of(method, w, x, max_bond)
    loss = sum(
        (core * torch.linspace(-1, 1, core.numel()).to(dtype).view_as(core)).sum().real
        for core in cores
    )
    for gradient in torch.autograd.grad(loss, [*w, *x], allow_unused=True):
        assert gradient is None or bool(torch.isfinite(gradient).all())


@claiming("gradients")
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("max_bond", [2, 64])
def test_law_7_gradients_of_the_tensor_equal_finite_differences(method, dtype, max_bond):
    # truncated and exact; of the tensor, which is smooth although singular vectors may not be
    chain = Chain(2, (2, 3, 2, 3), (2, 3, 2), "generic", 4)
    kind = "complex128" if dtype.is_complex else "float64"
    w = [torch.tensor(c) for c in random_operator(chain.dims, chain.dims, 2, 9, kind)]
    x = [torch.tensor(c) for c in chain.cores(kind)]
    arrays = [a.requires_grad_() for a in (*w, *x)]
    assert torch.autograd.gradcheck(
        lambda *a: torch_dense(method_of(method, a[:4], a[4:], max_bond)),
        arrays,
        atol=1e-5,
        rtol=1e-4,
        fast_mode=True,  # one random direction: the methods are many
    )


@given(chains(min_sites=2, max_sites=4, kinds=("generic",), max_batch=2), st.integers(1, 3))
def test_law_7_gradients_of_the_cores_equal_finite_differences(chain, max_bond):
    w, x, omegas = torch_problem(chain, max_bond)
    # the map is smooth where the sketches are well conditioned; leave out the few that are not
    smallest = []

    def watched(y, magnitude):
        unit = y.detach() / y.detach().norm(dim=2, keepdim=True)
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


@claiming("long")
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_law_9_thousand_sites_in_float32(method, backend, scale):
    rng = np.random.default_rng(0)
    L = 1000
    edges = [1] + [3] * (L - 1) + [1]
    cores = [
        (scale * rng.standard_normal((2, a, 2, b))).astype("float32")
        for a, b in itertools.pairwise(edges)
    ]
    w = [c.astype("float32") for c in ftnn.MPO.random((2,) * L, (2,) * L, 2, seed=1).cores]
    x = mps(cores, backend)
    y = ftnn.compress(mpo(w, backend) @ x, 6, method)  # exact bond
    for core in y.cores:
        core = to_numpy(core)
        assert np.isfinite(core).all()
        assert np.abs(core).max() < 1e6
        assert (np.linalg.norm(core.reshape(2, -1), axis=1) > 1e-6).all()
    exact = mpo([c.astype("float64") for c in w]) @ mps([c.astype("float64") for c in cores])
    assert_close(to_numpy(y.log_norm()).astype("float64"), exact_log_norm(exact), "float32", 100)


def exact_log_norm(lazy):
    """Log norm of a product of one term, by its merged chain."""
    ((term,),) = (lazy.terms,)
    env, log = np.ones((lazy.batch_size, 1, 1)), 0.0
    for k in range(lazy.L):
        env = extend_overlap(term, term, env, k)
        scale = np.linalg.norm(env, axis=(1, 2))
        env, log = env / scale[:, None, None], log + np.log(scale)
    return 0.5 * (np.log(env[:, 0, 0]) + log)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("L", [1, 2])
def test_short_chains(method, L):
    x = Chain(3, (4,) * L, (2,) * (L - 1), "generic", 0).mps()
    w_cores = random_operator((3,) * L, (4,) * L, 2, 0)
    y = ftnn.compress(mpo(w_cores) @ x + mpo(w_cores) @ x, 6, method)
    assert_close(dense(y), 2 * dense(x) @ dense_operator(w_cores).T, condition=1e9)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("scales", [(1e-5, 1e-5), (1e5, 1e5), (1.0, 1e-3), (1e3, 1e-2)])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_scale_of_a_sum_may_vary_along_the_chain(method, backend, scales):
    # the left half of each term is scaled per site, the right half back: the tensors are the same
    chains_ = [Chain(2, (3,) * 6, (4,) * 5, "generic", seed) for seed in (0, 1)]
    scaled = [
        [core * np.float32(s if k < 3 else 1 / s) for k, core in enumerate(c.cores("float32"))]
        for c, s in zip(chains_, scales, strict=True)
    ]
    total = ftnn.compress(mps(scaled[0], backend) + mps(scaled[1], backend), method=method)
    expected = sum(dense(c.mps()) for c in chains_)
    assert_close(dense(total), expected.astype("float32"), "float32", 1e3)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_law_9_same_seed_same_result(method):
    chain = Chain(3, (3,) * 5, (4,) * 4, "generic", 0)
    a, b, c = (ftnn.compress(chain.mps(), 2, method, seed=s) for s in (5, 5, 6))
    assert all((p == q).all() for p, q in zip(a.cores, b.cores, strict=True))
    other = not np.allclose(dense(a), dense(c))
    assert other == ((METHODS[method].seeded and method != "src-oversample") or other)


@pytest.mark.filterwarnings("ignore:Couldn't import `kahypar`")
@pytest.mark.parametrize(
    ("method", "factor"), [("direct", 1), ("dm", 1), ("zipup", 1), ("fit", 1.1)]
)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_errors_are_those_of_quimb_on_each_sample(method, factor, dtype):
    chain = Chain(3, (3,) * 6, (5,) * 5, "generic", 0)
    x = chain.mps(dtype)
    w = ftnn.MPO(random_operator((2,) * 6, chain.dims, 3, 1, dtype))
    vectors = (w @ x).to_dense()
    mine = np.linalg.norm(dense(ftnn.compress(w @ x, 4, method)) - vectors, axis=1)
    for n in range(3):
        lazy = qtn.tensor_network_apply_op_vec(w, x[n], contract=False)
        peer = qtn.tensor_network_1d_compress(lazy, max_bond=4, cutoff=0.0, method=method)
        theirs = np.linalg.norm(peer.to_dense().ravel() - vectors[n])
        assert mine[n] <= factor * theirs * (1 + 1e-4)
        assert method == "fit" or mine[n] >= theirs / (1 + 1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_bond": 0}, "max_bond is 0"),
        ({"method": "magic"}, "choose one of"),
        ({"seed": -1}, "seed is -1"),
        ({"rtol": -1.0, "method": "direct"}, "rtol is -1.0"),
    ],
)
def test_wrong_options_are_named(arguments, words):
    x = Chain(2, (2, 2), (2,), "generic", 0).mps()
    with pytest.raises(ValueError, match=words):
        ftnn.compress(x, **arguments)
