"""Batched, gradient-safe orthogonalization, norms and test matrices.

Everything acts on stacks of matrices, on whatever backend the arrays live on.
"""

import numpy as np
from autoray import do, infer_backend

from .backend import (
    Array,
    as_dtype_of,
    cholesky,
    eps,
    in_double,
    in_single,
    is_complex,
    solve_upper,
    stop_gradient,
    tiny,
    transposed,
)

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
    unit = y / scale[..., None, :]
    limit = NULL_FACTOR * eps(y) * magnitude
    factors = _by_gram if in_single(y) and infer_backend(y) != "jax" else _by_householder
    q, r, null = factors(unit, norms, limit)
    return q, r, null, scale


def _by_householder(unit: Array, norms: Array, limit: Array) -> tuple[Array, Array, Array]:
    q, r = do("linalg.qr", unit)
    diag = do("diagonal", r, axis1=-2, axis2=-1)  # (..., s)
    size = do("abs", diag)
    null = size * norms <= limit
    phase = do("where", null, do("zeros_like", diag), diag / (size + tiny(unit)))
    return q * phase[..., None, :], do("conj", phase)[..., :, None] * r, null


def _by_gram(unit: Array, norms: Array, limit: Array) -> tuple[Array, Array, Array]:
    # Cholesky factor of the Gram matrix, in double precision for single precision input: what
    # squaring loses lies below the rounding of the input. Pivots of columns of norm 1 that are
    # not null are above NULL_FACTOR * eps = 8e-6, their squares above 6e-11; the shift, which
    # keeps the factorization of a rank-deficient matrix going, is far below that.
    wide = in_double(unit)
    s = wide.shape[-1]
    eye = do("eye", s, like=wide)
    gram = do("conj", transposed(wide)) @ wide + 4 * s * eps(wide) * eye
    r = do("conj", transposed(cholesky(gram)))
    diag = do("real", do("diagonal", r, axis1=-2, axis2=-1))  # (..., s)
    null = diag * norms <= limit
    live = 1.0 - do("astype", null, "float64")
    solvable = r * (live[..., :, None] * live[..., None, :]) + (1.0 - live)[..., None, :] * eye
    q = solve_upper(wide, solvable) * live[..., None, :]
    return as_dtype_of(q, unit), as_dtype_of(r, unit), null


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
    factor = as_dtype_of(do("exp", log_scale / len(cores)), cores[0])[:, None, None, None]
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
