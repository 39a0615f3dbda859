"""Functions of arrays that autoray lacks, or that torch computes better by its own names."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from autoray import do

from .backend import Array, as_dtype_of, as_index, is_complex, tiny, widest
from .dispatch import dispatched

# autoray translates the names of keyword arguments at every call, which torch.compile cannot
# follow; the functions of the hot path therefore call torch by its own names.


def permute(x: Array, *axes: int) -> Array:
    """Permute the axes of ``x``."""
    return do("transpose", x, axes)


def matrix_transpose(x: Array) -> Array:
    """Swap the last two axes of ``x``."""
    return do("swapaxes", x, -2, -1)


def adjoint(x: Array) -> Array:
    """Return the conjugate transposes of a stack of matrices."""
    x = matrix_transpose(x)
    return do("conj", x) if is_complex(x) else x


@dispatched
def stop_gradient(x: Array) -> Array:
    """Return ``x`` as a constant of differentiation."""
    return x


@dispatched
def diagonal(x: Array) -> Array:
    """Return the diagonals of a stack of square matrices."""
    return do("diagonal", x, axis1=-2, axis2=-1)


@dispatched
def add_diagonal(x: Array, values: Array) -> Array:
    """Add ``values`` (..., n) to the diagonals of ``x`` (..., n, n), which may be overwritten."""
    return x + values[..., None] * do("eye", x.shape[-1], like=x)


@dispatched
def tril(x: Array, k: int = 0) -> Array:
    """Return the lower triangles of a stack of matrices, from the ``k``-th diagonal down."""
    return do("tril", x, k)


@dispatched
def largest(x: Array, axis: int | tuple[int, ...]) -> Array:
    """Return the largest entry along ``axis``, or several, which are kept with size 1."""
    return do("max", x, axis=axis, keepdims=True)


@dispatched
def at_least(x: Array, bound: float) -> Array:
    """Replace entries below ``bound`` by it."""
    return do("maximum", x, bound)


@dispatched
def at_most(x: Array, bound: float) -> Array:
    """Replace entries above ``bound`` by it."""
    return do("minimum", x, bound)


@dispatched
def replace_small(x: Array, bound: float, value: float) -> Array:
    """Replace entries up to ``bound`` by ``value``."""
    return do("where", x <= bound, value * do("ones_like", x), x)


@dispatched
def replace_zeros(x: Array, bound: float = 0.0) -> Array:
    """Replace what counts as zero in ``x``, all of it >= 0, by 1: entries up to a tiny bound."""
    return x + (x <= bound)


@dispatched
def sum_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum over ``axes``."""
    return do("sum", x, axis=axes)


def abs2(x: Array) -> Array:
    """Return the squared modulus, smooth at zero."""
    if is_complex(x):
        return do("real", x) ** 2 + do("imag", x) ** 2
    return x * x


@dispatched
def norm(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the Euclidean norm over ``axes``; its gradient at zero is not defined."""
    return do("sqrt", do("sum", do("abs", x) ** 2, axis=axes))


@dispatched
def peaks(x: Array) -> Array:
    """Return the largest modulus (batch,) in ``x`` (batch, ...), as a constant."""
    return do("abs", stop_gradient(x)).reshape(x.shape[0], -1).max(axis=1)


def log(x: Array) -> Array:
    """Return the logarithm of positive numbers, in double precision if the backend has it.

    Scales of a thousand sites add up to logarithms of thousands, whose rounding in single
    precision would be an error of a per cent in the norm.
    """
    return do("log", widest(x))


@dispatched
def erf(x: Array) -> Array:
    """Compute the error function."""
    from scipy.special import erf as function

    return function(x)


@dispatched
def cholesky(x: Array) -> Array:
    """Compute the lower Cholesky factor of a stack of positive definite matrices.

    Matrices with NaN or infinite entries give NaN, without an error and without synchronizing.
    """
    good = do("all", do("isfinite", x), axis=(-2, -1))[..., None, None]
    eye = do("eye", x.shape[-1], like=x)
    return do("where", good, do("linalg.cholesky", do("where", good, x, eye)), math.nan)


@dispatched
def invert_lower(x: Array) -> Array:
    """Invert a stack of lower triangular matrices."""
    return tril(do("linalg.inv", x))  # a general inverse leaves rounding above the diagonal


@dispatched
def thin_svd(x: Array) -> tuple[Array, Array, Array]:
    """Compute the factors u, s, vh of a stack of matrices, without the null space."""
    return _converging("linalg.svd", x, full_matrices=False)


@dispatched
def singular_values(x: Array) -> Array:
    """Return the singular values of a stack of matrices, in descending order."""
    return _converging("linalg.svd", x, compute_uv=False)


def _converging(function: str, x: Array, **options: bool) -> Any:
    try:
        return do(function, x, **options)
    except np.linalg.LinAlgError:
        raise ValueError(
            "the singular value decomposition does not converge: the vector holds NaN or "
            "infinite entries; clean or mask them first"
        ) from None


@dispatched
def take_along(x: Array, index: Array, axis: int) -> Array:
    """Return the entries of ``x`` at ``index`` along ``axis``."""
    return do("take_along_axis", x, index, axis)


@dispatched
def pivot_rows(x: Array) -> Array:
    """Choose rows of tall matrices by Gaussian elimination with row pivoting.

    Parameters
    ----------
    x : array (batch, n, m)
        n >= m; a constant of differentiation.

    Returns
    -------
    int array (batch, m)
        All different; the row of column k leaves the largest residual in it, as LAPACK has it.
        Where all residuals are zero it is any of the rest.

    Examples
    --------
    >>> pivot_rows(np.array([[[1.0, 0.0], [2.0, 1.0], [4.0, 2.5]]]))
    array([[2, 0]])
    """
    places, rest, rows = as_index(np.arange(x.shape[1]), x), x, []
    free = do("ones_like", do("real", x[:, :, 0]))
    for k in range(x.shape[2]):
        column = rest[:, :, k]  # (batch, n)
        size = do("abs", do("real", column)) + (do("abs", do("imag", column)) * is_complex(x))
        row = do("argmax", (size + tiny(x)) * free, 1)[:, None]  # (batch, 1)
        free = free * as_dtype_of(places != row, free)
        pivot = take_along(column, row, 1)
        pivot = do("where", pivot != 0, pivot, do("ones_like", pivot))
        full = do("broadcast_to", row[:, :, None], (*row.shape, x.shape[2]))
        rest = rest - (column / pivot * free)[:, :, None] * take_along(rest, full, 1)
        rows.append(row)
    return do("concatenate", rows, axis=1)


@dispatched(key=lambda arrays, axis: arrays[0])
def concat(arrays: Sequence[Array], axis: int) -> Array:
    """Concatenate ``arrays`` along ``axis``."""
    return do("concatenate", arrays, axis=axis)


@dispatched(key=lambda arrays, axis: arrays[0])
def stack(arrays: Sequence[Array], axis: int) -> Array:
    """Stack ``arrays`` along a new ``axis``."""
    return do("stack", arrays, axis=axis)


def dims_product(dims: Iterable[int]) -> int:
    """Return the product of ``dims`` as an exact Python integer (4**100 does not overflow)."""
    return math.prod(int(d) for d in dims)
