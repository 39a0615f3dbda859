"""Orthogonalization, TT-SVD and test matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from laws import EPS, assert_close, dense

from ftnn.arrays.orthonormal import orthonormalize
from ftnn.arrays.sketches import test_matrices
from ftnn.chains.tt_svd import truncated_svd, tt_svd

dtypes = st.sampled_from(["float32", "float64", "complex64", "complex128"])


def matrix(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if "complex" in dtype else x).astype(dtype)


@given(st.integers(1, 4), st.integers(1, 7), st.integers(1, 5), dtypes, st.integers(0, 999))
def test_rows_are_orthonormal_span_the_input_and_have_positive_pivots(b, n, s, dtype, seed):
    n = max(n, s)
    y = matrix((b, s, n), dtype, seed)
    q = orthonormalize(y)
    low = y @ np.swapaxes(q.conj(), 1, 2)
    assert_close(q @ np.swapaxes(q.conj(), 1, 2), np.stack([np.eye(s)] * b), dtype, 100)
    assert_close(low @ q, y, dtype, 100)
    diag = np.diagonal(low, axis1=1, axis2=2)
    assert (diag.real > 0).all()
    assert np.abs(diag.imag).max() <= 100 * EPS[dtype] * np.abs(diag).max()
    assert_close(orthonormalize(torch.from_numpy(y)), q, dtype, 1e5)


@given(st.integers(3, 7), st.integers(1, 3), st.integers(1, 3), dtypes, st.integers(0, 999))
def test_rows_beyond_the_rank_are_exact_zeros_without_gradient(n, rank, more, dtype, seed):
    rank = min(rank, n - 1)
    s = min(n, rank + more)
    y = matrix((2, s, rank), dtype, seed) @ matrix((2, rank, n), dtype, seed + 1)
    q = orthonormalize(y)
    assert not q[:, rank:].any()
    assert_close(np.linalg.norm(q[:, :rank], axis=2), np.ones((2, rank)), dtype, 100)
    t = torch.from_numpy(y).requires_grad_()
    (gradient,) = torch.autograd.grad((orthonormalize(t).abs() ** 3).sum(), t)
    assert bool(torch.isfinite(gradient).all())
    assert not bool(gradient[:, rank:].any())


@pytest.mark.parametrize("size", [0.0, 2e-156, 1e-100, 1.0, 1e200])
def test_zero_rows_of_any_magnitude_stay_zero_where_subnormal_numbers_are_zero(size):
    flushed = torch.set_flush_denormal(True)
    try:
        y = torch.tensor(matrix((2, 3, 4), "float64", 0))
        y[0] = 0.0
        magnitude = torch.ones(2, 3, dtype=y.dtype)
        magnitude[0] = size
        q = orthonormalize(y.requires_grad_(), magnitude)
        (gradient,) = torch.autograd.grad((q**3).sum(), y)
    finally:
        torch.set_flush_denormal(False)
    assert flushed
    assert not bool(q[0].any())
    assert not bool(gradient[0].any())
    assert_close(q[1] @ q[1].mT, np.eye(3), condition=100)
    assert bool(torch.isfinite(gradient).all())


@given(st.integers(1, 5), st.integers(1, 3), st.sampled_from([1e-5, 1e-3, 1e5]), st.integers(0, 99))
def test_scaling_rows_does_not_change_the_basis(n, s, factor, seed):
    n = max(n, s)
    y = matrix((2, s, n), "float64", seed)
    scale = factor ** np.linspace(0, 1, s)[:, None]
    assert_close(orthonormalize(y * scale), orthonormalize(y), condition=1e4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradient_equals_finite_differences(dtype):
    torch.manual_seed(0)
    y = torch.randn(3, 4, 6, dtype=dtype, requires_grad=True)
    assert torch.autograd.gradcheck(orthonormalize, y)


def test_functional_transforms():
    torch.manual_seed(0)
    y = torch.randn(3, 2, 5, dtype=torch.float64)

    def loss(m):
        return (orthonormalize(m) ** 3).sum()

    batched = torch.func.vmap(torch.func.grad(loss))(y)
    for n in range(3):
        assert_close(batched[n], torch.func.grad(loss)(y[n]))


def test_gradient_of_nearly_null_rows_is_damped():
    y = np.zeros((2, 4))
    y[:, 0] = 1.0
    y[1, 1] = 1e-11  # a pivot far below sqrt(eps), far above eps
    t = torch.tensor(y, requires_grad=True)
    (gradient,) = torch.autograd.grad(orthonormalize(t)[1, 2], t)
    assert float(gradient.abs().max()) < 1e6  # the true derivative is 1e11


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(1, 3),
    dtypes,
    st.sampled_from([0.0, 0.05, 0.5]),
    st.integers(0, 99),
)
def test_tt_svd_keeps_to_its_tolerance(dims, batch, dtype, rtol, seed):
    x = matrix((batch, int(np.prod(dims))), dtype, seed)
    cores = tt_svd(x, tuple(dims), rtol=rtol)
    error = np.linalg.norm(dense(cores) - x, axis=1)
    assert (error <= (rtol + 300 * EPS[dtype]) * np.linalg.norm(x, axis=1)).all()
    for a, b in zip(cores, tt_svd(torch.from_numpy(x), tuple(dims), rtol=rtol), strict=True):
        assert_close(b, a, dtype, 1e6)


def test_truncated_svd_bond_is_common_and_the_smallest():
    s = np.array([[1.0, 0.1, 0.01], [1.0, 0.5, 0.0]])
    m = np.stack([np.diag(row) for row in s])
    u, kept, vh = truncated_svd(m, None, np.array([0.02**2, 0.02**2]))
    assert kept.shape == (2, 2)
    u, kept, vh = truncated_svd(m, None, None)
    assert kept.shape == (2, 3)
    assert not u[1, :, 2].any()
    assert not vh[1, 2].any()


def test_test_matrices_have_the_prefix_property():
    small, large = test_matrices((3, 4, 5), 2, 7), test_matrices((3, 4, 5), 6, 7)
    assert all((a == b[:2]).all() for a, b in zip(small, large, strict=True))
    assert not np.allclose(small[0], test_matrices((3, 4, 5), 2, 8)[0])
