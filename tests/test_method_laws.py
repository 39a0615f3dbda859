"""Every truncation method obeys the laws that it claims, as METHODS declares."""

import itertools

import method_laws as laws
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import Chain, assert_close, dense, mpo, mps
from method_laws import problems

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.chains.terms import extend_overlap
from ftnn.truncation import METHODS

backends = st.sampled_from(["numpy", "torch"])
dtypes = st.sampled_from(["float64", "float32", "complex128", "complex64"])
bonds = st.integers(1, 4)


def claiming(claim):
    """Run a test for every method that claims a law, as METHODS declares."""
    names = [name for name, method in METHODS.items() if claim in method.claims]
    assert names
    return pytest.mark.parametrize("method", names)


@claiming("batched")
@given(problems(("generic", "padded", "repeated"), 6, max_batch=4), backends, bonds)
def test_law_1_batched_is_stacked(method, problem, backend, max_bond):
    laws.batched(method, problem, max_bond, backend=backend)


@claiming("gauge")
@given(problems(("generic",), 6), backends, bonds)
def test_law_2_output_does_not_depend_on_the_gauge(method, problem, backend, max_bond):
    laws.gauge(method, problem, max_bond, backend=backend)


@claiming("cores")
@given(problems(("generic",), 6, ("product",)), backends, bonds)
def test_law_2_output_cores_do_not_depend_on_the_gauge(method, problem, backend, max_bond):
    laws.gauge_of_cores(method, problem, max_bond, backend)


@claiming("padding")
@given(problems(("generic", "padded", "product", "deficient", "zero"), 6), backends)
def test_law_3_zero_padding_changes_nothing(method, problem, backend):
    laws.padding(method, problem, 3, backend=backend)


@claiming("width")
@given(problems(max_sites=6), backends, dtypes)
def test_law_4_enough_bond_is_exact(method, problem, backend, dtype):
    laws.exact(method, problem, dtype, backend)


@claiming("optimal")
@given(problems(("generic",), 6, min_sites=2), st.integers(1, 3))
def test_law_5_error_against_the_optimum(method, problem, max_bond):
    laws.optimal(method, problem, max_bond)


@claiming("tolerance")
@given(
    problems(("generic", "deficient", "padded"), 6, min_sites=2, max_bond=5),
    st.sampled_from([0.01, 0.04, 0.2, 0.5]),
)
def test_law_5_error_keeps_to_rtol(method, problem, rtol):
    laws.tolerance(method, problem, rtol)


@pytest.mark.parametrize("method", sorted(METHODS))
@given(problems(("generic",), 6, ("state",), min_sites=2), st.integers(1, 3))
def test_every_method_is_an_orthogonal_projection(method, problem, max_bond):
    laws.projection(method, problem, max_bond)


@claiming("backends")
@given(problems(("generic", "repeated"), 6), dtypes, bonds, st.sampled_from([0.0, 0.2]))
def test_law_6_backends_agree(method, problem, dtype, max_bond, rtol):
    laws.backends(method, problem, max_bond, dtype, rtol)


@claiming("gradients")
@given(problems(max_sites=5), st.integers(1, 5), dtypes)
def test_law_7_gradients_are_finite_for_every_input(method, problem, max_bond, dtype):
    laws.gradients(method, problem, max_bond, dtype)


@claiming("gradients")
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("max_bond", [2, 64])
def test_law_7_gradients_of_the_tensor_equal_finite_differences(method, dtype, max_bond):
    chain = Chain(2, (2, 3, 2, 3), (2, 3, 2), "generic", 4)
    laws.finite_differences(method, chain, max_bond, dtype)


@claiming("long")
@given(problems(), bonds, backends)
def test_law_9_same_seed_same_result(method, problem, max_bond, backend):
    laws.repeatable(method, problem, max_bond, backend=backend)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_law_9_another_seed_another_sketch(method):
    chain = Chain(3, (3,) * 5, (4,) * 4, "generic", 0)
    a, b = (dense(ftnn.compress(chain.mps(), 2, method, seed=s)) for s in (5, 6))
    assert METHODS[method].seeded or np.array_equal(a, b)
    assert method not in ("src", "fit") or not np.allclose(a, b)


@claiming("long")
@pytest.mark.parametrize(("backend", "scale"), [("numpy", 1e-3), ("torch", 1e3)])
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
