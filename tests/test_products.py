"""The elementwise product of two states: what is allocated for it, and its interpolation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import PLACES, Chain, assert_close, assert_same, chains, dense, mps, pad_bonds
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ftnn
from ftnn.arrays.backend import convert, to_numpy
from ftnn.arrays.functions import pivot_rows
from ftnn.arrays.sketches import test_matrices
from ftnn.nonlinear import Gated, Polynomial
from ftnn.nonlinear.hadamard import _basis, _quotient, interpolate_product

backends = st.sampled_from(["numpy", "torch"])


def interpolated(gate, value, bond, offset=False, seed=0):
    """Cores of ``gate * value`` or ``(1 + gate) * value`` at ``bond``, on the backend of both."""
    omegas = test_matrices(value.phys_dims, bond, seed)
    omegas = tuple(np.asarray(omega, to_numpy(value.cores[0]).dtype) for omega in omegas)
    backend = "torch" if isinstance(value.cores[0], torch.Tensor) else "numpy"
    omegas = tuple(convert(omega, backend) for omega in omegas)
    bonds = (1, *[bond] * (value.L - 1), 1)
    return interpolate_product(gate.cores, value.cores, omegas, bonds, offset)


# ---- what is allocated ---------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Keeps the number of entries of the largest array that any operator of torch returns.

    Views count as what they are views of: an expanded array has the entries it was made from.
    """

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                size = tensor.untyped_storage().nbytes() // tensor.itemsize
                self.entries = max(self.entries, size)
        return out


def largest(run, arrays):
    """Entries of the largest array of a forward and a backward pass.

    0 if it is no larger than all inputs together, whose peaks are found in one array.
    """
    arrays = [array.detach().requires_grad_() for array in arrays]
    with Largest() as seen:
        sum(core.square().sum() for core in run(arrays)).backward()
    return seen.entries if seen.entries > sum(array.numel() for array in arrays) else 0


@st.composite
def pairs(draw):
    """Two states of the same dimensions, of bonds far below their product."""
    L, batch = draw(st.integers(4, 6)), draw(st.integers(1, 3))
    dims = tuple(draw(st.lists(st.integers(2, 3), min_size=L, max_size=L)))
    kind = draw(st.sampled_from(["generic", "padded", "deficient", "zero"]))
    seed = draw(st.integers(0, 2**16))
    bonds = [draw(st.integers(7, 12)) for _ in range(2)]
    return [Chain(batch, dims, (m,) * (L - 1), kind, seed + n) for n, m in enumerate(bonds)]


@given(pairs(), st.integers(2, 12), st.booleans())
def test_a_sketch_never_holds_the_squared_joint_bond(states, bond, offset):
    L, batch, phys = states[0].L, states[0].batch, max(states[0].dims)
    joint = states[0].bonds[0] * states[1].bonds[0]
    arrays = [core for state in states for core in state.mps(backend="torch").cores]

    def run(cores):
        x, y = ftnn.MPS(cores[:L]), ftnn.MPS(cores[L:])
        return ftnn.compress(x * y + y if offset else x * y, max_bond=bond).cores

    # one site of both with an environment: the core of the product itself has phys joint^2
    assert largest(run, arrays) <= batch * phys * bond * joint < batch * phys * joint**2


@given(pairs(), st.integers(2, 12), st.booleans())
def test_an_interpolation_never_holds_the_joint_bond(states, bond, offset):
    L, batch, phys = states[0].L, states[0].batch, max(states[0].dims)
    widest = max(bond, *(state.bonds[0] for state in states))
    arrays = [core for state in states for core in state.mps(backend="torch").cores]

    def run(cores):
        return interpolated(ftnn.MPS(cores[:L]), ftnn.MPS(cores[L:]), bond, offset)

    assert largest(run, arrays) <= batch * (phys * widest) ** 2


@given(pairs(), st.integers(2, 6), st.sampled_from(["sketch", "cross", "polynomial"]))
def test_layers_take_no_more_than_their_product(states, bond, kind):
    x, inner = states[0], states[0].bonds[0]
    phys, batch = max(x.dims), x.batch
    if kind == "polynomial":
        layer, limit = Polynomial(x.dims, [0.5, 1.0, -1.0, 0.3], bond), bond * bond * inner
    else:
        layer = Gated(x.dims, x.dims, 1, bond, inner_bond=inner, product=kind)
        # A x and B x themselves take an environment, a core and the dimensions of an operator
        limit = {"sketch": bond * inner * inner, "cross": phys * inner * inner}[kind]
    layer.to("torch", "float64")
    cores = x.mps(backend="torch").cores
    assert largest(lambda arrays: layer.apply(tuple(arrays)), cores) <= batch * phys * limit


# ---- its interpolation ---------------------------------------------------------------------------


@given(chains(max_sites=4), st.booleans(), st.sampled_from(["float64", "complex128"]), backends)
def test_with_enough_bond_it_is_the_product(chain, offset, dtype, backend):
    x = chain.mps(dtype, backend)
    y = Chain(chain.batch, chain.dims, chain.bonds[::-1], "generic", chain.seed + 1)
    y = y.mps(dtype, backend)
    expected = (offset + dense(x)) * dense(y)
    found = dense(interpolated(x, y, 4096, offset))
    assert_close(found, expected, condition=1e7, scale=1e-3 + np.linalg.norm(expected))


def functions(kind, L=12):
    """Pairs of functions on a grid whose products compress, (2, 2^L) each, and a bond."""
    grid, rng = np.arange(2**L) / 2**L, np.random.default_rng(0)
    phase = rng.uniform(0, 1, (4, 2, 1))
    wave = np.sin(2 * np.pi * (3 * grid + phase[0])) + 0.3 * np.cos(2 * np.pi * (5 * grid))
    if kind == "waves":
        return wave, np.cos(2 * np.pi * (grid + phase[1])), 8
    if kind == "narrow":  # zero to rounding but for a few points
        return wave, np.exp(-((2000 * (grid - phase[2])) ** 2)), 8
    if kind == "one":  # a single entry
        one = np.zeros((2, 2**L))
        one[[0, 1], [17, 3001]] = 1.0
        return wave, one, 3
    return -1 + 1e-6 * wave, np.cos(2 * np.pi * (grid + phase[3])), 8  # 1 + gate nearly cancels


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("kind", ["waves", "narrow", "one", "cancelling"])
def test_it_is_as_accurate_as_the_sketch(kind, backend):
    gate, value, bond = functions(kind)
    offset = kind == "cancelling"
    expected = (offset + gate) * value
    x, y = (ftnn.MPS.from_dense(v, (2,) * 12, rtol=1e-14) for v in (gate, value))
    x, y = (mps(state.cores, backend) for state in (x, y))

    def error(cores):
        distance = np.linalg.norm(dense(cores) - expected, axis=1)
        return (distance / np.linalg.norm(expected, axis=1)).max()

    sketched = [ftnn.compress(x * y + y if offset else x * y, bond, seed=s) for s in range(3)]
    found = [error(interpolated(x, y, bond, offset, seed)) for seed in range(3)]
    rounding = 1e-9 if offset else 1e-11
    assert max(found) <= 3 * max(error(state.cores) for state in sketched) + rounding


@given(chains(max_sites=4, max_bond=3), st.booleans(), backends)
def test_padded_bonds_change_nothing(chain, offset, backend):
    cores = chain.cores()
    x, padded = mps(cores, backend), mps(pad_bonds(cores), backend)
    expected = (offset + dense(x)) * dense(x)
    found = dense(interpolated(padded, padded, 4096, offset))
    assert_close(found, expected, condition=1e7, scale=1e-3 + np.linalg.norm(expected))


@given(st.integers(-30, 30), st.integers(-30, 30), st.sampled_from(["float32", "float64"]))
def test_it_holds_at_any_scale_of_single_cores(first, second, dtype):
    chain = Chain(2, (2, 3, 2, 2), (2, 3, 2), "generic", 5)
    cores = chain.cores(dtype)
    other = [core.copy() for core in cores]
    other[0], other[2] = other[0] * 10.0**first, other[2] * 10.0**second
    other[1] = other[1] * 10.0 ** -(first + second) if dtype == "float64" else other[1]
    if dtype == "float32" and not -12 <= first + second <= 12:
        return  # the cores of the result cannot be represented
    x, y = mps(cores), mps([core.astype(dtype) for core in other])
    shift = 0.0 if dtype == "float64" else (first + second) * np.log(10.0)
    found, plain = interpolated(x, y, 6), interpolated(x, x, 6)
    assert_same(tuple(found), tuple(plain), PLACES, dtype, shift)


def test_long_chains_neither_overflow_nor_vanish():
    L, bond = 200, 4
    edges = [1, *[bond] * (L - 1), 1]
    x, y = (
        mps([np.full((1, edges[k], 2, edges[k + 1]), size, np.float32) for k in range(L)])
        for size in (3.0, 0.2)
    )
    found = ftnn.MPS(interpolated(x, y, 2))
    assert all(np.isfinite(core).all() for core in found.cores)
    expected = L * np.log(0.6 * 2**0.5) + 2 * (L - 1) * np.log(bond)
    assert found.log_norm()[0] == pytest.approx(expected, rel=1e-5)


def test_a_null_fiber_takes_no_row_of_another():
    # row 0 is the only one of the second fiber, and the first fiber is null
    values = np.zeros((1, 4, 2))
    values[0, 0, 1] = 1.0
    found = _basis(values)
    assert found.live.tolist() == [[1.0, 0.0]]
    assert found.rows[0, 0] == 0
    assert_close(_quotient(found), np.eye(4)[None, :, :1] * [1.0, 0.0])


@given(chains(max_sites=4, max_bond=3), st.booleans(), st.booleans())
def test_gradients_are_finite_and_those_of_the_product(chain, offset, pad):
    arrays = pad_bonds(chain.cores()) if pad else chain.cores()
    cores = [torch.from_numpy(core).requires_grad_() for core in arrays]
    x = ftnn.MPS(cores)
    weights = torch.linspace(-1, 1, int(np.prod(chain.dims)), dtype=torch.float64)
    exact = (((offset + x.to_dense()) * x.to_dense()) @ weights).sum()
    found = (ftnn.MPS(interpolated(x, x, 4096, offset)).to_dense() @ weights).sum()
    expected, got = (torch.autograd.grad(value, cores) for value in (exact, found))
    for a, b in zip(got, expected, strict=True):
        assert bool(torch.isfinite(a).all())
        if chain.kind == "generic":
            assert_close(a, b, condition=1e10, scale=1e-3 + float(b.norm()))


@given(st.integers(1, 9), st.integers(1, 5), st.sampled_from(["float64", "complex128"]), backends)
def test_pivot_rows_are_those_of_lapack(n, m, dtype, backend):
    from scipy.linalg import lu

    n = max(n, m)
    x = np.random.default_rng(n * m).standard_normal((2, n, m, 2)) @ [1.0, 0.5j]
    x = x.real if dtype == "float64" else x
    found = to_numpy(pivot_rows(convert(x, backend)))
    for rows, one in zip(found, x, strict=True):
        permutation = lu(one)[0].T @ np.arange(n)
        np.testing.assert_array_equal(rows, permutation[:m])
    # what is null takes any row, all of them different
    blank = to_numpy(pivot_rows(convert(np.zeros((1, n, m)), backend)))
    assert len(set(blank[0].tolist())) == m
