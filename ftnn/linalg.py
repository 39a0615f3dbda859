"""Batched, gradient-safe orthogonalization, truncated factorizations and test matrices.

Everything acts on stacks of matrices, on whatever backend the arrays live on.
"""

import math

import numpy as np
from autoray import do, infer_backend

from .backend import Array, eps, is_complex, permute, stop_gradient, tiny

NULL_FACTOR = 64.0
"""A column is null if its new part is below this many eps of its magnitude."""


def orthonormalize(y: Array, magnitude: Array | None = None) -> Array:
    r"""Orthonormal basis of the columns of ``y``, unique, with null columns exactly zero.

    The basis is the :math:`Q` of :math:`Y = QR` with a positive diagonal of :math:`R`: a
    smooth, unique function of ``y`` wherever the columns are independent. Columns beyond the
    rank of ``y`` (:math:`R_{jj} = 0` to rounding) become columns of zeros instead of arbitrary
    unit vectors, and receive no gradient.

    Parameters
    ----------
    y : array (..., n, s)
        Stack of matrices with ``s <= n``, real or complex, whose columns are in general
        position as those of a random sketch are: if the rank is m, the first m columns span.
    magnitude : array (..., s), optional
        Size of the numbers each column was computed from; its rounding error is eps times
        that. By default the norm of the column, as if it were exact.

    Returns
    -------
    array (..., n, s)
        The columns that are not zero are orthonormal.

    Notes
    -----
    Columns are scaled to norm 1 first: Q does not change (it only scales R), and products of
    Gaussians over many sites make raw sketches differ by many orders of magnitude.

    With upstream gradient :math:`\bar Q` (and none on R) the gradient of a QR factorization is
    :math:`\bar Y = (\bar Q - Q\,\mathrm{sym}(\bar Q^\dagger Q))R^{-\dagger}`, where
    :math:`\mathrm{sym}(M) = \mathrm{tril}(M,-1) + \mathrm{tril}(M,-1)^\dagger
    + \Re\,\mathrm{diag}\,M` (Walter, Lehmann, Lamour, "On evaluating higher-order derivatives of
    the QR decomposition", 2012). The triangular solve is Tikhonov-regularized: the diagonal
    :math:`\rho` of the column scaled R is replaced by :math:`\rho + \epsilon/\rho`, so that the
    gradient of a nearly null direction, :math:`\propto 1/\rho`, is damped to zero once
    :math:`\rho < \sqrt\epsilon`.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([[3.0, 0.0, 6.0], [4.0, 2.0, 8.0], [0.0, 0.0, 0.0]])
    >>> print(orthonormalize(y).round(3) + 0.0)
    [[ 0.6 -0.8  0. ]
     [ 0.8  0.6  0. ]
     [ 0.   0.   0. ]]
    """
    if infer_backend(y) == "torch":
        from ._torch import orthonormalize_torch

        return orthonormalize_torch(y, magnitude)
    return qr_positive(y, magnitude)[0]


def qr_positive(y: Array, magnitude: Array | None = None) -> tuple[Array, Array, Array, Array]:
    """Factors behind :func:`orthonormalize`.

    Returns
    -------
    q : array (..., n, s)
        Orthonormal columns; null columns are zero.
    r : array (..., s, s)
        Upper triangular factor of the column-scaled ``y``, with positive diagonal.
    null : bool array (..., s)
        Which columns are null.
    scale : array (..., s)
        Norm of each column of ``y``, kept off zero.
    """
    norms = do("linalg.norm", y, axis=-2)  # (..., s)
    magnitude = norms if magnitude is None else magnitude
    scale = norms + tiny(y) ** 0.5  # a zero column stays zero
    q, r = do("linalg.qr", y / scale[..., None, :])
    diag = do("diagonal", r, axis1=-2, axis2=-1)  # (..., s)
    size = do("abs", diag)
    null = size * norms <= NULL_FACTOR * eps(y) * magnitude
    phase = do("where", null, do("zeros_like", diag), diag / (size + tiny(y)))
    return q * phase[..., None, :], do("conj", phase)[..., :, None] * r, null, scale


def abs2(x: Array) -> Array:
    """Squared modulus, smooth at zero."""
    if is_complex(x):
        return do("real", x) ** 2 + do("imag", x) ** 2
    return x * x


def safe_norm(x: Array, axis: tuple[int, ...]) -> Array:
    """Euclidean norm over ``axis`` whose gradient at zero is zero instead of NaN."""
    square = do("sum", abs2(x), axis=axis)
    positive = square > 0
    one = do("ones_like", square)
    root = do("sqrt", do("where", positive, square, one))
    return do("where", positive, root, do("zeros_like", square))


def unit_scale(x: Array, keep: int) -> Array:
    """Norm of ``x`` over all but its first ``keep`` axes, as a constant, kept off zero.

    Sweeps divide by it and put it back in log scale; the product is unchanged, hence its
    gradient may be dropped.
    """
    flat = do("reshape", stop_gradient(x), (*x.shape[:keep], -1))
    return do("linalg.norm", flat, axis=keep) + tiny(x) ** 0.5


def spread(cores: list[Array], log_scale: Array) -> tuple[Array, ...]:
    """Multiply a batched chain by ``exp(log_scale)``, spread evenly over its cores.

    Parameters
    ----------
    cores : list of array (batch, left, phys, right)
    log_scale : array (batch,)
        Natural logarithm of the factor. Even spreading keeps a chain of a thousand sites
        representable in float32 though its norm is not.
    """
    factor = do("exp", log_scale / len(cores))[:, None, None, None]
    return tuple(core * factor for core in cores)


def test_matrices(dims: tuple[int, ...], size: int, seed: int) -> tuple[np.ndarray, ...]:
    r"""Random test matrices :math:`\Omega_k` of successive randomized compression.

    Parameters
    ----------
    dims : tuple of int
        Physical dimension of every site of the chain to compress.
    size : int
        Number of columns of the sketch; the first ``s`` rows are the same for every
        ``size >= s``.
    seed : int

    Returns
    -------
    tuple of array (size, dims[k]), float64, on NumPy; one for every site but the last.

    Examples
    --------
    >>> [omega.shape for omega in test_matrices((2, 3, 4), size=5, seed=0)]
    [(5, 2), (5, 3)]
    """
    return tuple(
        np.random.default_rng((int(seed), site)).standard_normal((int(size), int(dim)))
        for site, dim in enumerate(dims[:-1])
    )


test_matrices.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def truncated_svd(
    matrix: Array, max_bond: int | None, budget: Array | None
) -> tuple[Array, Array, Array]:
    """Batched SVD cut to the smallest bond, common to the batch, that keeps to the budget.

    Parameters
    ----------
    matrix : array (batch, m, n)
    max_bond : int, optional
    budget : array (batch,), optional
        Squared error each sample may lose. By default only directions that are zero to
        rounding are cut.

    Returns
    -------
    u : array (batch, m, k)
    s : array (batch, k)
    vh : array (batch, k, n)
        Directions that are null in one sample but not in the batch come as exact zeros; signs
        are fixed by making the largest entry of each column of ``u`` positive.
    """
    u, s, vh = do("linalg.svd", matrix, full_matrices=False)
    top = s[:, :1]
    s = do("where", s > NULL_FACTOR * eps(matrix) * top, s, do("zeros_like", s))
    tail = do("flip", do("cumsum", do("flip", s * s, (1,)), 1), (1,))  # tail[:, j] = sum_{i>=j}
    limit = 0.0 if budget is None else budget[:, None]
    keep = int(do("max", do("sum", do("astype", tail > limit, "int64"), axis=1)))
    keep = max(1, keep if max_bond is None else min(keep, max_bond))
    u, s, vh = u[:, :, :keep], s[:, :keep], vh[:, :keep]
    u, vh = _fix_signs(u, vh)
    live = do("astype", s > 0, str(s.dtype).replace("torch.", ""))
    return u * live[:, None, :], s, vh * live[:, :, None]


def _fix_signs(u: Array, vh: Array) -> tuple[Array, Array]:
    size = do("abs", u)
    # ties broken towards the first entry, up to rounding, so that backends agree
    near = size >= (1 - 1e3 * eps(u)) * do("max", size, axis=1, keepdims=True)
    first = do("argmax", do("astype", near, "int64"), axis=1)  # (batch, k)
    index = do("reshape", first, (*first.shape[:1], 1, *first.shape[1:]))
    pivot = do("take_along_axis", u, index, 1)  # (batch, 1, k)
    modulus = do("abs", pivot)
    one = do("ones_like", pivot)
    phase = do(
        "where", modulus > 0, pivot / do("where", modulus > 0, pivot * 0 + modulus, one), one
    )
    return u * do("conj", phase), vh * permute(phase, 0, 2, 1)


def tt_svd(
    array: Array, dims: tuple[int, ...], max_bond: int | None = None, rtol: float = 0.0
) -> tuple[Array, ...]:
    """Batched TT-SVD of dense vectors (Oseledets 2011, algorithm 1).

    Parameters
    ----------
    array : array (batch, prod(dims))
    dims : tuple of int
    max_bond : int, optional
    rtol : float
        Relative error allowed in each sample; shared equally between the L - 1 cuts.

    Returns
    -------
    tuple of array (batch, left, phys, right)
        Left-canonical cores, one bond dimension for the whole batch; samples of lower rank are
        padded with zeros.
    """
    batch, L = array.shape[0], len(dims)
    budget = None
    if rtol > 0:
        budget = rtol**2 / max(1, L - 1) * do("sum", abs2(array), axis=1)
    cores, left, rest = [], 1, array
    for k, dim in enumerate(dims[:-1]):
        rest = do("reshape", rest, (batch, left * dim, math.prod(dims[k + 1 :])))
        u, s, vh = truncated_svd(rest, max_bond, budget)
        cores.append(do("reshape", u, (batch, left, dim, u.shape[2])))
        left, rest = u.shape[2], s[:, :, None] * vh
    cores.append(do("reshape", rest, (batch, left, dims[-1], 1)))
    return tuple(cores)
