"""Environments against dense references and quimb; the sweep in log scale on long chains."""

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
    dense_operator,
    insert_gauges,
    mpo,
    mps,
    pad_bonds,
    random_operator,
)

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.chains.overlap import overlap, squared_norm

dtypes = st.sampled_from(["float64", "complex128"])
backends = st.sampled_from(["numpy", *OTHERS])


def partner(chain):
    """Another chain on the same sites, with other bonds."""
    bonds = tuple(1 + (b + 1) % 4 for b in chain.bonds)
    return Chain(chain.batch, chain.dims, bonds, "generic", chain.seed + 1)


def reference(bra, ket, weights, sites):
    """Environment of some sites by einsum; shares no code with ftnn."""
    batch = max(len(bra[0]), len(ket[0]))
    first = sites[0] if sites else 0
    env = None
    for k in sites:
        a, b = (np.broadcast_to(c[k], (batch, *c[k].shape[1:])) for c in (bra, ket))
        w = np.eye(a.shape[2])[None, :, :, None] if weights is None else weights[k]
        site = np.einsum("bipm,apqc,bjqk->biajmck", a.conj(), w, b)
        env = site if env is None else np.einsum("bxyzijk,bijkuvw->bxyzuvw", env, site)
    assert first == 0 or env is not None
    return env


def value(env):
    """The array of an environment, its scale put back; on NumPy."""
    array, log_scale = to_numpy(env.array), to_numpy(env.log_scale)
    return array * np.exp(log_scale).reshape(-1, *[1] * (array.ndim - 1))


@given(chains(max_sites=6, max_bond=4), dtypes, backends, st.booleans())
def test_environments_are_those_of_einsum(chain, dtype, backend, sandwich):
    x, y = chain.cores(dtype), partner(chain).cores(dtype)
    w = random_operator(chain.dims, chain.dims, 2, chain.seed, dtype) if sandwich else None
    operator = mpo(w, backend) if sandwich else None
    states = mps(x, backend), mps(y, backend)
    lefts = ftnn.environments(*states, operator)
    rights = ftnn.environments(*states, operator, side="right")
    assert len(lefts) == len(rights) == chain.L + 1
    whole = dense(x).conj() * (dense(y) @ dense_operator(w).T if sandwich else dense(y))
    size = np.linalg.norm(dense(x)) * np.linalg.norm(dense(y)) + 1e-3
    for k, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        if k > 0:
            expected = reference(x, y, w, range(k))[:, 0, 0, 0]
            expected = expected if sandwich else expected[:, :, 0]
            assert_close(value(left), expected, condition=1e4)
        if k < chain.L:
            expected = reference(x, y, w, range(k, chain.L))[..., 0, 0, 0]
            expected = expected if sandwich else expected[:, :, 0]
            assert_close(value(right), expected, condition=1e4)
        product = (value(left) * value(right)).reshape(chain.batch, -1).sum(1)
        assert_close(product, whole.sum(1), condition=1e5, scale=size)
        peaks = np.abs(to_numpy(left.array)).reshape(chain.batch, -1).max(1)
        assert np.all((np.abs(peaks - 1) < 1e-12) | (peaks == 0))


@given(chains(max_sites=6, kinds=("generic", "padded")), dtypes)
def test_quimb_finds_the_same_environments(chain, dtype):
    x, y = chain.mps(dtype), partner(chain).mps(dtype)
    lefts, rights = ftnn.environments(x, y), ftnn.environments(x, y, side="right")
    for n in range(chain.batch):
        bra = x[n].H.reindex({f"k{k}": f"k{k}" for k in range(chain.L)})
        ket = y[n]
        bra.mangle_inner_()
        network = bra & ket
        for k in range(1, chain.L):
            inds = (bra.bond(k - 1, k), ket.bond(k - 1, k))
            for sites, env in ((range(k), lefts[k]), (range(k, chain.L), rights[k])):
                part = network.select([f"I{j}" for j in sites], "any")
                expected = part.contract(all, output_inds=inds).data
                assert_close(value(env)[n], expected, condition=1e4)


@given(chains(), dtypes, backends, st.sampled_from(["left", "right"]))
def test_batched_is_stacked_and_a_batch_of_one_broadcasts(chain, dtype, backend, side):
    x, y = chain.cores(dtype), partner(chain).cores(dtype)
    whole = ftnn.environments(mps(x, backend), mps(y, backend), side=side)
    one = ftnn.environments(mps(x, backend), mps([c[:1] for c in y], backend), side=side)
    for n in range(chain.batch):
        single = ftnn.environments(
            *(mps([c[n : n + 1] for c in z], backend) for z in (x, y)), side=side
        )
        for a, b in zip(whole, single, strict=True):
            assert_close(value(a)[n : n + 1], value(b), condition=1e3)
    alone = ftnn.environments(
        mps([c[:1] for c in x], backend), mps([c[:1] for c in y], backend), side=side
    )
    for a, b in zip(one, alone, strict=True):
        assert_close(value(a)[:1], value(b), condition=1e3)


@given(chains(min_sites=2), dtypes)
def test_gauges_and_padding_do_not_change_the_overlap(chain, dtype):
    x, y = chain.cores(dtype), partner(chain).cores(dtype)
    size = np.linalg.norm(dense(x)) * np.linalg.norm(dense(y)) + 1e-3
    expected = np.sum(dense(x).conj() * dense(y), axis=1)
    for other in (insert_gauges(y, chain.seed), pad_bonds(y)):
        left, right = (ftnn.environments(mps(x), mps(other), side=s) for s in ("left", "right"))
        for a, b in zip(left, right, strict=True):
            product = (value(a) * value(b)).reshape(chain.batch, -1).sum(1)
            assert_close(product, expected, condition=1e7, scale=size)


@pytest.mark.parametrize("backend", ["numpy", *OTHERS])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_a_thousand_sites_in_single_precision(backend, scale):
    L = 1000
    chain = Chain(2, (2,) * L, (3,) * (L - 1), "generic", 0)
    cores = [(c * scale).astype("float32") for c in chain.cores()]
    x = mps(cores, backend)
    wide = mps([c.astype("float64") for c in cores])
    for side, end in (("left", L), ("right", 0)):
        envs = ftnn.environments(x, side=side)
        assert all(np.isfinite(to_numpy(env.array)).all() for env in envs)
        expected = ftnn.environments(wide, side=side)[end]
        log = to_numpy(envs[end].log_scale) + np.log(to_numpy(envs[end].array)[:, 0, 0])
        want = expected.log_scale + np.log(expected.array[:, 0, 0])
        assert np.allclose(log, want, rtol=1e-6)
    assert abs(float(to_numpy(x.log_norm())[0])) > 1000  # e^1000 is no number


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("sandwich", [False, True])
def test_gradients_are_those_of_the_dense_vectors(kind, dtype, sandwich):
    chain = Chain(2, (2, 3, 2, 2), (3, 4, 2), kind, 3)
    x = mps(chain.cores(dtype), "torch").cores
    y = mps(partner(chain).cores(dtype), "torch").cores
    w = random_operator(chain.dims, chain.dims, 2, 0, dtype)
    operator = mpo(w, "torch") if sandwich else None
    matrix = torch.from_numpy(dense_operator(w)).to(x[0].dtype)
    leaves = [c.clone().requires_grad_() for c in (*x, *y)]
    bra, ket = ftnn.MPS(leaves[:4]), ftnn.MPS(leaves[4:])

    def gradients(output):
        total = (output * torch.tensor([1.0, -2.0], dtype=torch.float64)).sum()
        return torch.autograd.grad(total, leaves, allow_unused=True)

    v, u = bra.to_dense(), ket.to_dense()
    expected = gradients((v.conj() * (u @ matrix.T if sandwich else u)).sum(1).real)
    for k in range(chain.L + 1):
        left = ftnn.environments(bra, ket, operator)[k]
        right = ftnn.environments(bra, ket, operator, side="right")[k]
        product = (left.array * right.array).flatten(1).sum(1).real
        found = gradients(product * torch.exp(left.log_scale + right.log_scale))
        scale = max(float(g.abs().max()) for g in expected)
        for one, other in zip(found, expected, strict=True):
            assert np.isfinite(to_numpy(one)).all()
            assert_close(one, other, condition=1e4, scale=scale + 1e-3)


@given(chains(max_sites=4, max_bond=3), dtypes, backends)
def test_squared_norms_of_sums_of_terms(chain, dtype, backend):
    x, y = mps(chain.cores(dtype), backend), mps(partner(chain).cores(dtype), backend)
    w = random_operator(chain.dims, chain.dims, 2, chain.seed, dtype)
    lazy = mpo(w, backend) @ x - 2.0 * y + 0.5 * (x * y)
    d = dense(x) @ dense_operator(w).T - 2 * dense(y) + 0.5 * dense(x) * dense(y)
    size, log_scale = squared_norm(lazy.terms)
    found = to_numpy(size) * np.exp(to_numpy(log_scale))
    expected = np.sum(np.abs(d) ** 2, axis=1)
    assert_close(found, expected, condition=1e6, scale=1 + np.linalg.norm(expected))


@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_an_overlap_is_one_graph():
    torch._dynamo.reset()
    cores = mps(Chain(2, (2, 3, 2), (2, 2), "generic", 0).cores(), "torch").cores
    value, log_scale = overlap(cores, cores)
    found = torch.compile(overlap, fullgraph=True, backend="eager")(cores, cores)
    assert_close(found[0], value)
    assert_close(found[1], log_scale)


GOOD = Chain(2, (2, 3), (2,), "generic", 0).mps()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ftnn.environments("x"), TypeError, "bra is a str, expected an MPS"),
        (lambda: ftnn.environments(GOOD, GOOD + GOOD), TypeError, "ket is a Lazy"),
        (lambda: ftnn.environments(GOOD, side="top"), ValueError, "side is 'top'; choose"),
        (lambda: ftnn.environments(GOOD, operator=3), TypeError, "operator is a int"),
        (
            lambda: ftnn.environments(GOOD, Chain(2, (3, 2), (2,), "generic", 0).mps()),
            ValueError,
            r"bra has phys_dims \(2, 3\), but ket has",
        ),
        (
            lambda: ftnn.environments(GOOD, operator=ftnn.MPO.random((2, 2), (2, 3), 1, seed=0)),
            ValueError,
            "but operator has out_dims",
        ),
        (
            lambda: ftnn.environments(GOOD, operator=ftnn.MPO.random((2, 3), (2, 2), 1, seed=0)),
            ValueError,
            "but operator has in_dims",
        ),
        (
            lambda: ftnn.environments(GOOD, Chain(3, (2, 3), (2,), "generic", 0).mps()),
            ValueError,
            "batches of 2 and 3",
        ),
        (lambda: ftnn.environments(GOOD, mps(GOOD.cores, "torch")), ValueError, "mix numpy"),
        (lambda: overlap(GOOD.cores, GOOD.cores[:1]), ValueError, "2 sites and ket 1"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
