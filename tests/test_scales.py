"""Laws over scales: what is representable is right, however large or small single cores are."""

from itertools import pairwise

import layer_laws
import numpy as np
import pytest
import torch
from catalogue import Case
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import (
    EPS,
    Chain,
    assert_close,
    chains,
    dense,
    dense_operator,
    mpo,
    mps,
    pad_bonds,
    random_operator,
)

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.chains.overlap import squared_norm
from ftnn.truncation import METHODS, truncate

DTYPES = st.sampled_from(["float32", "float64", "complex64"])
BACKENDS = st.sampled_from(["numpy", "torch"])
SEEDS = st.integers(0, 99)
METHOD = pytest.mark.parametrize(
    "method", [name for name, method in METHODS.items() if "scales" in method.claims]
)


def exponents(rng, L, limit=30):
    """Powers of ten for the cores of a chain."""
    return rng.integers(-limit, limit + 1, L)


def scaled(cores, powers):
    return [(c * 10.0 ** int(e)).astype(c.dtype) for c, e in zip(cores, powers, strict=True)]


def dense_over(x, power):
    """Dense vectors, in double precision, divided by ten to a power."""
    cores = [np.asarray(to_numpy(c), "complex128") for c in x.cores]
    return dense([c * 10.0 ** (-power / len(cores)) for c in cores])


def lost_digits(method, dtype):
    half = METHODS[method].digits < 1.0 and dtype == "float64"
    return EPS[dtype] ** -0.5 if half else 1.0


@METHOD
@given(chains(max_sites=6, max_bond=4, max_batch=3), BACKENDS, DTYPES, SEEDS)
def test_cores_of_any_scale_compress_to_the_same_vector(method, chain, backend, dtype, seed):
    rng = np.random.default_rng(seed)
    powers = exponents(rng, chain.L)
    lazy = mps(scaled(chain.cores(dtype), powers), backend)
    y = ftnn.compress(lazy, method=method)
    expected = dense([c.astype("complex128") for c in chain.cores(dtype)])
    condition = 1e4 * lost_digits(method, dtype)
    assert_close(dense_over(y, int(powers.sum())), expected, dtype, condition)


@METHOD
@given(chains(max_sites=6, max_bond=4, kinds=("generic",)), BACKENDS, st.integers(1, 3), SEEDS)
def test_truncation_is_homogeneous(method, chain, backend, max_bond, seed):
    rng = np.random.default_rng(seed)
    powers, more = exponents(rng, chain.L), exponents(rng, chain.L)
    w = random_operator(chain.dims, chain.dims, 2, seed)
    x, y = chain.cores(), Chain(1, chain.dims, chain.bonds, "generic", seed + 1).cores()
    plain = ftnn.compress(mpo(w, backend) @ mps(x, backend) * mps(y, backend), max_bond, method)
    lazy = mpo(scaled(w, more), backend) @ mps(scaled(x, powers), backend) * mps(y, backend)
    power = int(powers.sum() + more.sum())
    found = dense_over(ftnn.compress(lazy, max_bond, method), power)
    # singular values that are nearly equal at the cut are told apart by rounding
    scale = 1e-3 + np.linalg.norm(dense(plain))
    assert_close(found, dense_over(plain, 0), condition=1e8, scale=scale)


@METHOD
@given(chains(max_sites=6, max_bond=3, max_batch=3), BACKENDS, DTYPES, SEEDS)
def test_sums_of_terms_of_different_scales_equal_the_dense_sum(method, chain, backend, dtype, seed):
    rng = np.random.default_rng(seed)
    kinds = rng.choice(["generic", "zero", "padded"], 2)
    others = [Chain(chain.batch, chain.dims, chain.bonds, kind, seed) for kind in kinds]
    w = random_operator(chain.dims, chain.dims, 2, seed, dtype)
    factors = rng.choice([0.0, 1.0, -2.0, 1e-5, 1e5], 3)
    lazy, terms, powers = None, [], []
    for n, (each, factor) in enumerate(zip([chain, *others], factors, strict=True)):
        # all of the same size but for a few digits, or far apart; every core at its own scale
        own = exponents(rng, chain.L)
        own[-1] = np.clip(rng.integers(-3, 4) - own[:-1].sum(), -30, 30)
        x = mps(scaled(each.cores(dtype), own), backend)
        term = (mpo(w, backend) @ x if n == 1 else x) * float(factor)
        lazy = term if lazy is None else lazy + term
        vector = dense([c.astype("complex128") for c in each.cores(dtype)])
        terms.append(vector @ dense_operator(w).T if n == 1 else vector)
        powers.append(int(own.sum()) + (np.log10(abs(factor)) if factor else -np.inf))
    top = max(powers) if max(powers) > -np.inf else 0.0
    parts = [
        np.sign(f) * 10.0 ** (p - top) * t for f, p, t in zip(factors, powers, terms, strict=True)
    ]
    expected = sum(parts)
    scale = max([np.linalg.norm(part) for part in parts])
    found = dense_over(ftnn.compress(lazy, method=method), top)
    assert_close(found, expected, dtype, 1e4 * lost_digits(method, dtype), scale)


@METHOD
@settings(max_examples=8)
@given(
    chains(max_sites=4, max_bond=3, max_batch=3),
    BACKENDS,
    DTYPES,
    st.integers(-30, 30),
    st.booleans(),
)
def test_factors_of_any_scale_overflow_only_with_the_result(
    method, chain, backend, dtype, power, per_sample
):
    # times the first core the factor is not representable; the result is
    powers = [power, -power, *[0] * (chain.L - 2)] if chain.L > 1 else [0]
    x = mps(scaled(chain.cores(dtype), powers), backend)
    plain = chain.mps(dtype, backend)
    w = random_operator(chain.dims, chain.dims, 2, 0, dtype)
    factor = np.full(chain.batch, 10.0**power) if per_sample else 10.0**power
    vector = dense([c.astype("complex128") for c in chain.cores(dtype)])
    image = vector @ dense_operator(w).T
    for lazy, expected in (
        (factor * x, vector),
        (factor * (mpo(w, backend) @ x) - x * factor, image - vector),
        ((factor * plain) * (plain / factor) * factor, vector * vector),
    ):
        size = np.linalg.norm(vector) + np.linalg.norm(image) + np.linalg.norm(vector) ** 2
        out = to_numpy(lazy.to_dense()).astype("complex128") * 10.0**-power
        assert_close(out, expected, dtype, 1e4, size)
        out = dense_over(ftnn.compress(lazy, method=method), power)
        assert_close(out, expected, dtype, 1e4 * lost_digits(method, dtype), size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("power", [-9, 0, 9])
@METHOD
def test_a_term_of_zeros_or_times_zero_costs_nothing(method, dtype, power):
    chain = Chain(2, (3,) * 4, (3,) * 3, "generic", 0)
    small = mps(scaled(chain.cores(dtype), [power] * 4))
    other = Chain(2, (3,) * 4, (2,) * 3, "generic", 1).cores(dtype)
    zero = mps([other[0], other[1], 0 * other[2], other[3]])
    for lazy in (small + zero, zero + small, small + 0.0 * mps(other)):
        out = dense_over(ftnn.compress(lazy, method=method), 4 * power)
        condition = 1e3 * lost_digits(method, dtype)
        assert_close(
            out, dense([c.astype("complex128") for c in chain.cores(dtype)]), dtype, condition
        )


@pytest.mark.parametrize("method", ["direct", "dm"])
@pytest.mark.parametrize("power", [-30, -9, 25])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_known_errors_are_those_of_the_dense_vectors(method, power, dtype):
    parts = [Chain(2, (3,) * 4, (3,) * 3, "generic", seed).cores(dtype) for seed in (0, 1)]
    # the scale sits on two cores and is taken back by none
    powers = [power, 0, 0, 0]
    lazy = mps(scaled(parts[0], powers)) + mps(scaled(parts[1], powers))
    exact = sum(dense([c.astype("float64") for c in part]) for part in parts)
    done = truncate(lazy, 2, method)
    errors = np.linalg.norm(dense_over(done.mps, power) - exact, axis=1)
    assert_close(done.error, errors / np.linalg.norm(exact, axis=1), dtype, 1e3)
    assert done.error_kind == "exact"


@pytest.mark.parametrize("power", [-160, -60, 60, 160])
@METHOD
def test_scales_whose_squares_double_precision_cannot_hold(method, power):
    chain = Chain(2, (3,) * 4, (3,) * 3, "generic", 0)
    lazy = mps(scaled(chain.cores(), [power, 0, 0, 0]))
    y = ftnn.compress(lazy, method=method)
    condition = 1e4 * lost_digits(method, "float64")
    assert_close(dense_over(y, power), dense(chain.cores()), "float64", condition)
    log_norm = to_numpy(lazy.log_norm()) - power * np.log(10.0)
    assert_close(log_norm, np.log(np.linalg.norm(dense(chain.cores()), axis=1)), "float64")


def mantissa(value, log_scale, power):
    """Numbers in log scale, divided by ten to a power."""
    return to_numpy(value).astype("complex128") * np.exp(to_numpy(log_scale) - power * np.log(10.0))


@given(chains(max_sites=6, max_bond=4, max_batch=3), BACKENDS, DTYPES, st.booleans(), SEEDS)
def test_environments_at_any_scale(chain, backend, dtype, with_operator, seed):
    rng = np.random.default_rng(seed)
    powers, more = exponents(rng, chain.L), exponents(rng, chain.L)
    other = Chain(chain.batch, chain.dims, chain.bonds, "generic", seed + 1)
    bra, ket = chain.cores(dtype), other.cores(dtype)
    w = random_operator(chain.dims, chain.dims, 2, seed, dtype)
    vectors = [dense([c.astype("complex128") for c in cores]) for cores in (bra, ket)]
    image = vectors[1] @ dense_operator(w).T if with_operator else vectors[1]
    expected = (vectors[0].conj() * image).sum(1)
    scale = np.linalg.norm(vectors[0]) * np.linalg.norm(image)
    states = mps(scaled(bra, powers), backend), mps(scaled(ket, more), backend)
    operator = mpo(w, backend) if with_operator else None
    power = int(powers.sum() + more.sum())
    sides = [ftnn.environments(*states, operator, side) for side in ("left", "right")]
    for left, right in zip(*sides, strict=True):
        whole = (left.array * right.array).reshape(chain.batch, -1).sum(1)
        assert_close(
            mantissa(whole, left.log_scale + right.log_scale, power), expected, dtype, 1e4, scale
        )


@given(chains(max_sites=6, max_bond=3, max_batch=3), BACKENDS, DTYPES, SEEDS)
def test_squared_norms_at_any_scale(chain, backend, dtype, seed):
    rng = np.random.default_rng(seed)
    powers, more = exponents(rng, chain.L), exponents(rng, chain.L, 15)
    w = random_operator(chain.dims, chain.dims, 2, seed, dtype)
    x = mps(scaled(chain.cores(dtype), powers), backend)
    lazy = mpo(scaled(w, more), backend) @ x
    zero = 0.0 * mps(scaled(chain.cores(dtype), abs(powers)), backend)
    product = dense([c.astype("complex128") for c in chain.cores(dtype)]) @ dense_operator(w).T
    expected = np.linalg.norm(product, axis=1) ** 2
    power = 2 * int(powers.sum() + more.sum())
    for each in (lazy, lazy + zero):
        found = mantissa(*squared_norm(each.terms), power)
        assert_close(found, expected, dtype, 1e4)


@pytest.mark.parametrize("power", [-30, 30])
def test_norms_of_cores_all_as_small_or_as_large(power):
    chain = Chain(2, (3,) * 6, (3,) * 5, "generic", 0)
    x = mps(scaled(chain.cores("float32"), [power] * 6))
    log_norm = to_numpy(x.log_norm()) - 6 * power * np.log(10.0)
    assert_close(log_norm, np.log(np.linalg.norm(dense(chain.cores()), axis=1)), "float32", 1e2)


LAYERS = {
    "rms": lambda dims: ftnn.nonlinear.RMSNorm(),
    "layer": lambda dims: ftnn.nonlinear.LayerNorm(dims, 8),
    "expectation": lambda dims: ftnn.Expectation(dims, 3, 2),
}


def gradients(layer, cores, dtype):
    """Outputs in double precision, and gradients of a fixed function of them."""
    arrays = [torch.tensor(c, dtype=getattr(torch, dtype), requires_grad=True) for c in cores]
    out = layer.apply(tuple(arrays))
    if isinstance(out, tuple):
        vector = out[0].double()[:, 0]
        for core in out[1:]:
            vector = torch.einsum("bxl,blpr->bxpr", vector.flatten(1, -2), core.double())
        out = vector.flatten(1)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    return out.detach(), torch.autograd.grad((out * weights).sum(), arrays)


@pytest.mark.parametrize("kind", sorted(LAYERS))
@pytest.mark.parametrize(
    ("dtype", "power"), [("float32", -20), ("float32", 20), ("float64", -160), ("float64", 160)]
)
@pytest.mark.parametrize("site", [0, 1, 3])
def test_layers_that_do_not_see_the_scale_have_its_gradients(kind, dtype, power, site):
    dims = (3, 2, 3, 2)
    cores = Chain(3, dims, (3, 3, 2), "generic", 0).cores()
    layer = LAYERS[kind](dims).to("torch", dtype)
    expected, wanted = gradients(layer, cores, dtype)
    powers = [power if k == site else 0 for k in range(4)]
    out, found = gradients(layer, scaled(cores, powers), dtype)
    assert_close(out, expected, dtype, 1e4)
    for one, other, e in zip(found, wanted, powers, strict=True):
        assert bool(torch.isfinite(one).all())
        assert_close(one.double().numpy() * 10.0**e, other.double(), dtype, 1e5)


@pytest.mark.parametrize("name", ["RMSNorm", "LayerNorm", "Expectation"])
@pytest.mark.parametrize("share", [-0.8, 0.8, 1.0])
@pytest.mark.parametrize("site", [0, 1, 2])
@pytest.mark.parametrize("dims", [(1, 1, 1), (2, 3, 2)])
def test_gradients_of_a_core_much_larger_than_the_others_are_finite(name, share, site, dims):
    """The loss weighs the cores that come out, of which one is as much larger."""
    make = {
        "RMSNorm": lambda: ftnn.nonlinear.RMSNorm(),
        "LayerNorm": lambda: ftnn.nonlinear.LayerNorm(dims, 4),
        "Expectation": lambda: ftnn.Expectation(dims, 2, 2),
    }
    reach = tuple(share if k == site else 0.0 for k in range(3))
    case = Case(name, make[name](), Chain(2, dims, (2, 2), "generic", 0), reach)
    layer_laws.gradients(case, "float32")
    layer_laws.gradients(case, "float64")


def test_padding_does_not_hide_a_small_state():
    chain = Chain(2, (3,) * 4, (2,) * 3, "generic", 0)
    x = mps(pad_bonds(scaled(chain.cores("float32"), [-30, 30, -30, 30])))
    assert_close(dense(ftnn.compress(x + x)), 2 * dense(chain.cores("float32")), "float32", 1e3)


def loss_with(x, cores, method, weight):
    """Overlap of x plus the cores, compressed, with a fixed vector, in units of x."""
    y = ftnn.compress(x + ftnn.MPS(cores), max_bond=9, method=method)
    return (y.to_dense() @ weight).sum()


@pytest.mark.parametrize("power", [0, -20, 20])
@pytest.mark.parametrize("zero", [0, 1, 2])
@pytest.mark.parametrize("method", ["src", "src-oversample", "direct", "dm", "fit"])
def test_a_term_of_zeros_has_the_gradient_of_what_it_would_add(method, zero, power):
    # a bias starts like this: all cores but one alive, and it has to learn
    rng = np.random.default_rng(0)
    x = ftnn.MPS.from_dense(torch.from_numpy(rng.standard_normal((2, 27))), (3, 3, 3))
    x = ftnn.MPS([x.cores[0] * 10.0**power, *x.cores[1:]])
    cores = [torch.from_numpy(rng.standard_normal((1, 1, 3, 1))) for _ in range(3)]
    cores[zero] = torch.zeros_like(cores[zero]).requires_grad_()
    weight = torch.from_numpy(rng.standard_normal(27))
    loss_with(x, cores, method, weight).backward()
    step = 1e-6 * 10.0 ** max(power, 0)
    for n in range(3):
        change = torch.zeros_like(cores[zero].detach())
        change[0, 0, n, 0] = step
        ends = [
            loss_with(x, [*cores[:zero], sign * change, *cores[zero + 1 :]], method, weight).item()
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert cores[zero].grad[0, 0, n, 0].item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


@METHOD
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("dtype", "power"), [("float32", 38), ("float32", -37), ("float64", 307), ("float64", -307)]
)
def test_the_range_of_cores_is_that_of_the_dtype(method, backend, dtype, power):
    rng, dims, edges = np.random.default_rng(power % 100), (3,) * 5, (1, 2, 3, 3, 2, 1)
    plain = [
        (rng.uniform(0.3, 1.0, (2, left, 3, right)) * rng.choice([-1, 1], (2, left, 3, right)))
        for left, right in pairwise(edges)
    ]
    operator = ftnn.MPO.random(dims, dims, 2, seed=1)
    weight = ftnn.MPO([core.astype(dtype) for core in operator.cores]).to(backend)
    x = ftnn.MPS([(core * 10.0**power).astype(dtype) for core in plain]).to(backend)
    y = ftnn.compress(weight @ x, method=method)
    found = dense([np.asarray(to_numpy(c), "float64") * 10.0**-power for c in y.cores])
    expected = dense(plain) @ operator.to_dense().T
    assert_close(found, expected, dtype, lost_digits(method, dtype) * 1e4)
