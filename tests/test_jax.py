"""What is JAX's own: tracing, and gradients by the same rules. Skipped where JAX is not there."""

import numpy as np
import pytest
import torch
from laws import Chain, assert_close, random_operator

from ftnn.arrays.backend import convert
from ftnn.chains.terms import Apply, State, Term
from ftnn.truncation import METHODS

jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)

NAMES = sorted(METHODS)
DTYPES = ("float64", "complex128")


def arrays(backend, dtype, kind="generic"):
    chain = Chain(2, (2, 3, 2, 3), (2, 3, 2), kind, 4)
    w = random_operator(chain.dims, chain.dims, 2, 9, dtype)
    return [convert(a, backend) for a in (*w, *chain.cores(dtype))]


def run(method, a, max_bond=2):
    terms = (Term(Apply(tuple(a[:4]), State(tuple(a[4:])))), Term(State(tuple(a[4:])), 0.5))
    return METHODS[method](terms, max_bond, 0.0, 1)[0]


def full(cores):
    out = cores[0][:, 0]
    for core in cores[1:]:
        # by shape alone, for both libraries
        out = (out.reshape(out.shape[0], -1, out.shape[-1])) @ core.reshape(
            core.shape[0], core.shape[1], -1
        )
        out = out.reshape(core.shape[0], -1, core.shape[3])
    return out.reshape(out.shape[0], -1)


@pytest.mark.parametrize("method", NAMES)
def test_fixed_bonds_can_be_traced(method):
    a = arrays("jax", "float64")
    expected = run(method, a)
    for one, other in zip(expected, jax.jit(lambda *a: run(method, a))(*a), strict=True):
        assert_close(np.asarray(other), np.asarray(one), condition=1e6)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_law_7_gradients_are_those_of_torch(method, dtype):
    target = np.random.default_rng(0).standard_normal((2, 36))

    def loss(a, like):
        return ((abs(full(run(method, a))) ** 2) * convert(target, like)).sum()

    a = arrays("torch", dtype)
    want = torch.autograd.grad(loss([x.requires_grad_() for x in a], "torch"), a)
    got = jax.grad(lambda a: loss(a, "jax"))(arrays("jax", dtype))
    scale = max(float(g.norm()) for g in want)
    for one, other in zip(want, got, strict=True):
        assert_close(np.conj(np.asarray(other)), one, condition=1e7, scale=scale)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("kind", ["padded", "product", "repeated", "zero"])
def test_law_7_gradients_are_finite(method, kind):
    def loss(a):
        return sum(
            (core * jax.numpy.arange(core.size).reshape(core.shape)).sum()
            for core in run(method, a, 5)
        )

    for gradient in jax.grad(loss)(arrays("jax", "float64", kind)):
        assert bool(jax.numpy.isfinite(gradient).all())
