"""Canonical forms: the same vectors, isometries around a center, null directions as zeros."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import (
    KINDS,
    OTHERS,
    Chain,
    assert_close,
    chains,
    dense,
    insert_gauges,
    mps,
    pad_bonds,
)

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.chains.canonical import canonical_cores

dtypes = st.sampled_from(["float64", "complex128", "float32"])
backends = st.sampled_from(["numpy", *OTHERS])
ALIVE = tuple(kind for kind in KINDS if kind != "zero")


def projector(gram):
    """Whether a batch of Gram matrices are identities with zeros in place of some ones."""
    ones = np.einsum("bii->bi", gram).real
    live = np.round(ones)
    flat = np.abs(gram - np.einsum("bi,ij->bij", live, np.eye(gram.shape[1])))
    return set(np.unique(live)) <= {0.0, 1.0}, flat.max(initial=0.0)


@given(chains(), dtypes, backends, st.data())
def test_the_vector_stays_and_all_but_the_center_are_isometries(chain, dtype, backend, data):
    x = chain.mps(dtype, backend)
    center = data.draw(
        st.one_of(st.integers(-chain.L, chain.L - 1), st.sampled_from(["left", "right"]))
    )
    y, log_norm = ftnn.canonical(x, center)
    before, log_norm = dense(x), to_numpy(log_norm)
    assert y.phys_dims == chain.dims
    assert_close(dense(y) * np.exp(log_norm)[:, None], before, dtype, 1e4)
    alive = np.linalg.norm(before, axis=1) > 0
    assert_close(np.linalg.norm(dense(y), axis=1)[alive], np.ones(alive.sum()), dtype, 1e3)
    assert (np.isneginf(log_norm) == ~alive).all()
    site = {"left": chain.L - 1, "right": 0}.get(center, center)
    tolerance = 1e3 * (1.2e-7 if dtype == "float32" else 2.3e-16)
    for k, core in enumerate(to_numpy(c) for c in y.cores):
        if k == site % chain.L:
            continue
        axes = "blpr,blps->brs" if k < site % chain.L else "blpr,bmpr->blm"
        of_zeros_and_ones, error = projector(np.einsum(axes, core.conj(), core))
        assert of_zeros_and_ones
        assert error < tolerance


@given(chains(kinds=("generic", "padded", "deficient")), dtypes, st.data())
def test_bonds_are_bounded_and_null_directions_are_exact_zeros(chain, dtype, data):
    center = data.draw(st.integers(0, chain.L - 1))
    cores = chain.cores(dtype)
    y, _ = ftnn.canonical(mps(pad_bonds(cores)), center)
    vectors = dense(cores).astype("complex128" if "complex" in dtype else "float64")
    for k in range(1, chain.L):
        inner = int(np.prod(chain.dims[:k])) if k <= center else int(np.prod(chain.dims[k:]))
        assert y.bond_dims[k - 1] <= inner
        matrix = vectors.reshape(chain.batch, int(np.prod(chain.dims[:k])), -1)
        # what the outer sites span: rank of all that is left (or right) of the cut
        outer = cores[:k] if k <= center else [c.transpose(0, 3, 2, 1) for c in cores[: k - 1 : -1]]
        bond = outer[-1].shape[3]
        span = _span(outer).reshape(chain.batch, -1, bond)
        rank = np.linalg.matrix_rank(span, tol=1e-5 * np.linalg.norm(span))
        core = y.cores[k - 1] if k <= center else y.cores[k].transpose(0, 3, 2, 1)
        live = np.any(core.reshape(chain.batch, -1, core.shape[3]) != 0, axis=1).sum(axis=1)
        assert (live <= rank).all()
        assert (live >= np.linalg.matrix_rank(matrix, tol=1e-5 * np.linalg.norm(matrix))).all()


def _span(cores):
    out = cores[0][:, 0].reshape(len(cores[0]), -1, cores[0].shape[3])
    for core in cores[1:]:
        out = np.einsum("bxl,blpr->bxpr", out, core).reshape(len(core), -1, core.shape[3])
    return out


@given(chains(min_sites=2, kinds=("generic",), max_bond=4), st.data())
def test_quimb_sees_the_same_center_and_the_same_vector(chain, data):
    center = data.draw(st.integers(0, chain.L - 1))
    x = chain.mps()
    y, log_norm = ftnn.canonical(x, center)
    for n in range(chain.batch):
        state = y[n]
        first, last = state.calc_current_orthog_center()
        assert first <= center <= last or first == last
        theirs = x[n]
        theirs.canonicalize_(center)
        assert np.isclose(np.linalg.norm(theirs[center].data), np.exp(log_norm[n]))
        assert_close(np.exp(log_norm[n]) * state.to_dense(), theirs.to_dense(), condition=1e4)
        # singular values of the centers are those of the vector
        ours, other = (s.schmidt_values(max(center, 1)) for s in (state, theirs / theirs.norm()))
        assert np.allclose(ours, other, atol=1e-10)


@given(chains(kinds=ALIVE), dtypes, backends, st.data())
def test_batched_is_stacked(chain, dtype, backend, data):
    center = data.draw(st.integers(0, chain.L - 1))
    cores = chain.cores(dtype)
    whole, log_norm = ftnn.canonical(mps(cores, backend), center)
    for n in range(chain.batch):
        one, own = ftnn.canonical(mps([c[n : n + 1] for c in cores], backend), center)
        assert np.isclose(to_numpy(own)[0], to_numpy(log_norm)[n], rtol=1e-5, atol=1e-5)
        assert_close(dense(one)[0], dense(whole)[n], dtype, 1e4)


@given(chains(min_sites=2, kinds=ALIVE), st.data())
def test_gauge_and_padding_of_the_input_do_not_change_the_vector(chain, data):
    center = data.draw(st.integers(0, chain.L - 1))
    cores = chain.cores()
    expected, log_norm = ftnn.canonical(mps(cores), center)
    for other in (insert_gauges(cores, chain.seed), pad_bonds(cores)):
        found, own = ftnn.canonical(mps(other), center)
        assert np.allclose(own, log_norm, atol=1e-8)
        assert_close(dense(found), dense(expected), condition=1e8)


@pytest.mark.parametrize("backend", ["numpy", *OTHERS])
@pytest.mark.parametrize(("scale", "center"), [(1e-3, 400), (1e3, 0)])
def test_a_thousand_sites_in_single_precision(backend, scale, center):
    L = 1000
    chain = Chain(2, (2,) * L, (3,) * (L - 1), "generic", 0)
    cores = [(c * scale).astype("float32") for c in chain.cores()]
    y, log_norm = ftnn.canonical(mps(cores, backend), center)
    expected = mps([c.astype("float64") for c in cores]).log_norm()
    assert np.allclose(to_numpy(log_norm), expected, rtol=1e-6)
    assert np.allclose(to_numpy(y.norm()), 1.0, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_entries_whose_squares_are_no_numbers(scale):
    cores = [c * scale for c in Chain(2, (2, 3, 2), (2, 2), "generic", 0).cores()]
    y, log_norm = ftnn.canonical(mps(cores), 1)
    plain = dense([c / scale for c in cores])
    found = dense(y) * np.exp(log_norm - 3 * np.log(scale))[:, None]
    assert_close(found, plain, condition=1e5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("center", [0, 2, 3])
def test_gradients_are_those_of_the_dense_vectors(kind, dtype, center):
    chain = Chain(2, (2, 3, 2, 2), (2, 3, 2), kind, 3)
    x = mps(pad_bonds(chain.cores(dtype), 1), "torch").cores
    leaves = [c.clone().requires_grad_() for c in x]
    test = torch.from_numpy(Chain(1, (24,), (), "generic", 1).cores(dtype)[0].reshape(-1))
    y, log_norm = ftnn.canonical(ftnn.MPS(leaves), center)
    vector = y.to_dense()
    found = torch.autograd.grad((vector @ test).abs().sum(), leaves, retain_graph=True)
    for g in found:
        assert np.isfinite(to_numpy(g)).all()
    if kind == "zero":
        return
    v = ftnn.MPS(leaves).to_dense()
    norm = v.norm(dim=1, keepdim=True)
    expected = torch.autograd.grad(((v / norm) @ test).abs().sum(), leaves, retain_graph=True)
    logs = (
        torch.autograd.grad(log_norm.sum(), leaves),
        torch.autograd.grad(norm.log().sum(), leaves),
    )
    if kind in ("generic", "repeated"):  # padded directions get no gradient: they leave the vector
        for ours, theirs in ((found, expected), logs):
            scale = max(float(g.abs().max()) for g in theirs)
            for one, other in zip(ours, theirs, strict=True):
                assert_close(one[..., :2, :, :2], other[..., :2, :, :2], condition=1e6, scale=scale)


@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_one_graph():
    torch._dynamo.reset()
    cores = mps(Chain(2, (2, 3, 2), (2, 2), "generic", 0).cores(), "torch").cores
    expected, _ = canonical_cores(cores, 1)
    compiled = torch.compile(lambda c: canonical_cores(c, 1), fullgraph=True, backend="eager")
    for one, other in zip(compiled(cores)[0], expected, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x: ftnn.canonical(x + x, 0), TypeError, "Lazy, expected an MPS; evaluate"),
        (lambda x: ftnn.canonical(x, 2), ValueError, "center is 2, but there are 2 sites"),
        (lambda x: ftnn.canonical(x, -3), ValueError, "center is -3"),
        (lambda x: ftnn.canonical(x, "middle"), ValueError, "expected a site, or one of left"),
        (lambda x: ftnn.canonical(x, 0.5), ValueError, "center is 0.5"),
        (lambda x: ftnn.canonical(x, True), ValueError, "center is True"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call(Chain(2, (2, 3), (2,), "generic", 0).mps())
