"""Batched, gradient-safe orthogonalization, norms and test matrices.

Everything acts on stacks of matrices, on whatever backend the arrays live on.
"""

from functools import lru_cache

import numpy as np
from autoray import do, infer_backend

from .backend import (
    Array,
    add_diagonal,
    as_dtype_of,
    at_least,
    cholesky,
    diagonal,
    eps,
    in_double,
    in_single,
    invert_lower,
    is_complex,
    largest,
    log,
    norm,
    stop_gradient,
    tiny,
    transposed,
    tril,
)

NULL_FACTOR = 4.0
"""A row is null if its new part is below this many times the rounding error it carries."""


def orthonormalize(y: Array, magnitude: Array | None = None) -> Array:
    r"""Orthonormal basis of the rows of ``y``, unique, with null rows exactly zero.

    The basis is the :math:`Q` of :math:`Y = LQ`, :math:`L` lower triangular with a positive
    diagonal: a smooth, unique function of ``y`` wherever the rows are independent. Rows beyond
    the rank of ``y`` (:math:`L_{jj} = 0` to rounding) become rows of zeros instead of arbitrary
    unit vectors, and receive no gradient.

    Parameters
    ----------
    y : array (..., s, n)
        Stack of matrices with ``s <= n``, real or complex, whose rows are in general
        position as those of a random sketch are: if the rank is m, the first m rows span.
    magnitude : array (..., s), optional
        Size of the numbers each row was computed from; its rounding error is eps times
        that. By default the norm of the row, as if it were exact.

    Returns
    -------
    array (..., s, n)
        The rows that are not zero are orthonormal.

    Notes
    -----
    Rows count as scaled to norm 1: Q does not change (it only scales L), and products of
    Gaussians over many sites make raw sketches differ by many orders of magnitude.

    With upstream gradient :math:`\bar Q` (and none on L) the gradient is

    .. math:: \bar Y = L^{-\dagger}\,(\bar Q - \mathrm{sym}(\bar Q Q^\dagger)\,Q), \qquad
              \mathrm{sym}(M) = \mathrm{tril}(M, -1) + \mathrm{tril}(M, -1)^\dagger
              + \Re\,\mathrm{diag}\,M,

    the transpose of the rule for QR factorizations (Walter, Lehmann, Lamour, "On evaluating
    higher-order derivatives of the QR decomposition", 2012). The triangular solve is
    Tikhonov-regularized: the diagonal :math:`\rho` of the row scaled L is replaced by
    :math:`\rho + \epsilon/\rho`, so that the gradient of a nearly null direction,
    :math:`\propto 1/\rho`, is damped to zero once :math:`\rho < \sqrt\epsilon`.

    Examples
    --------
    >>> import numpy as np
    >>> y = np.array([[3.0, 4.0, 0.0], [0.0, 2.0, 0.0], [6.0, 8.0, 0.0]])
    >>> print(orthonormalize(y).round(3) + 0.0)
    [[ 0.6  0.8  0. ]
     [-0.8  0.6  0. ]
     [ 0.   0.   0. ]]
    """
    backend = infer_backend(y)
    if backend == "torch":
        from ._torch import orthonormalize_torch

        return orthonormalize_torch(y, magnitude)
    if backend == "jax":
        from ._jax import orthonormalize_jax

        return orthonormalize_jax(y, magnitude)
    return as_dtype_of(orthonormal_rows(y, magnitude)[0], y)


def orthonormal_rows(y: Array, magnitude: Array | None = None) -> tuple[Array, Array, Array]:
    r"""Compute :func:`orthonormalize`, without a gradient.

    Returns
    -------
    q : array (..., s, n)
        Orthonormal rows; null rows are zero. In double precision wherever that was used.
    null : bool array (..., s)
        Which rows are null.
    norms : array (..., s)
        Norm of each row of ``y``.

    Notes
    -----
    L is the Cholesky factor of the Gram matrix; all of it are small matrix products and small
    triangular factors. Squaring halves the digits. In single precision the Gram matrix is
    formed in double precision: what is lost then lies below the rounding of the input. In
    double precision three rounds follow each other (shifted CholeskyQR3: Fukaya, Kannan,
    Nakatsukasa, Yamamoto, Yanagisawa, SIAM J. Sci. Comput. 42, A477, 2020), the shift in
    proportion to the squared rows, as if those had been scaled to norm 1 anew in each: so a row
    whose new part is small is resolved as well as by Householder reflections. The shift keeps
    the factorization of a rank-deficient matrix going.
    """
    single = in_single(y) and infer_backend(y) != "jax"  # JAX may have no double precision
    q = in_double(y) if single else y
    rounds = 1 if single else 3
    shift = 4 * y.shape[-2] * eps(q)
    inverse: Array = None
    norms: Array = None
    zero: Array = None
    for n in range(rounds):
        gram = q @ _adjoint(q)  # (..., s, s)
        square = do("real", diagonal(gram))
        # below the floor a row is zero; twice, for some devices take subnormal numbers for zero
        floor = eps(q) ** 4 if n else 2 * tiny(q) / shift
        zero = square <= floor if zero is None else zero
        square = at_least(square, floor)
        step = invert_lower(cholesky(add_diagonal(gram, shift * square)))
        size = do("sqrt", square)  # (..., s)
        if norms is None:
            inverse, norms = step, size
        else:
            inverse = step @ inverse
        if n < rounds - 1:
            q = step @ q
    # The shift leaves the rows short, which a hundred sites would add up: if
    # L L^+ = G + shift diag(G), row j of the inverse of L times Y has the square norm
    # 1 - shift sum_i |inverse_ji|^2 G_ii
    spanned = _squares(step * size[..., None, :])
    short = shift * spanned
    # Row j of Y is the combination c of the rows before it, plus a pivot. If every row, scaled
    # to norm 1, carries a rounding error of eps times its magnitude, the pivot carries |(-c, 1)|
    # of that; and row j of the inverse of L is (-c, 1) divided by the pivot.
    noise = spanned if rounds == 1 else _squares(inverse * norms[..., None, :])
    noise = noise * (NULL_FACTOR * eps(y)) ** 2
    null = noise * (norms if magnitude is None else as_dtype_of(magnitude, noise)) ** 2 >= norms**2
    null = null | zero  # whose magnitude may have a square of zero, too
    length = do("sqrt", do("where", null, do("ones_like", short), 1.0 - short))
    live = as_dtype_of(do("logical_not", null), length)
    return (step * as_dtype_of(live / length, step)[..., None]) @ q, null, norms


def lq_positive(y: Array, magnitude: Array | None = None) -> tuple[Array, Array, Array, Array]:
    """Factors behind :func:`orthonormalize`, from which its gradient follows.

    Returns
    -------
    q : array (..., s, n)
        Orthonormal rows; null rows are zero.
    low : array (..., s, s)
        Lower triangular factor of ``y``, its rows scaled to norm 1, with positive diagonal.
    null : bool array (..., s)
        Which rows are null.
    scale : array (..., s)
        Norm of each row of ``y``, kept off zero.
    """
    q, null, norms = orthonormal_rows(y, magnitude)
    low = tril(as_dtype_of(y, q) @ _adjoint(q)) / as_dtype_of(norms, q)[..., None]
    scale = as_dtype_of(norms + tiny(y) ** 0.5, do("real", y))
    return as_dtype_of(q, y), as_dtype_of(low, y), null, scale


def _squares(x: Array) -> Array:
    """Squared norms of rows."""
    return norm(x, (-1,)) ** 2


def _adjoint(x: Array) -> Array:
    return do("conj", transposed(x))


def orthonormalize_vjp(grad: Array, q: Array, low: Array, null: Array, scale: Array) -> Array:
    """Gradient of :func:`orthonormalize`, from the factors; see there for the derivation.

    Parameters
    ----------
    grad : array (..., s, n)
        Upstream gradient, in torch's convention for complex numbers.
    q, low, null, scale : array
        What :func:`lq_positive` returned.

    Returns
    -------
    array (..., s, n)
    """
    # null rows leave the system: no gradient in, identity rows and columns in L
    live = as_dtype_of(do("logical_not", null), q)
    grad = grad * live[..., None]
    low = low * live[..., :, None] * live[..., None, :]
    pivot = do("real", diagonal(low))
    one = do("ones_like", pivot)
    pivot = do("where", pivot > eps(q), pivot, eps(q) * one)  # it may be rounding, of any sign
    damping = do("where", null, one, eps(q) / pivot)
    eye = do("eye", low.shape[-1], like=low)
    low = low + as_dtype_of(damping, q)[..., None] * eye

    m = grad @ do("conj", transposed(q))  # (..., s, s)
    lower = tril(m, -1)
    middle = as_dtype_of(do("real", diagonal(m)), q)[..., None] * eye
    sym = lower + do("conj", transposed(lower)) + middle
    inverse = invert_lower(low) / scale[..., None, :]
    return do("conj", transposed(inverse)) @ (grad - sym @ q)


def abs2(x: Array) -> Array:
    """Squared modulus, smooth at zero."""
    if is_complex(x):
        return do("real", x) ** 2 + do("imag", x) ** 2
    return x * x


def safe_norm(x: Array, axis: tuple[int, ...]) -> Array:
    """Euclidean norm over ``axis`` whose gradient at zero is zero instead of NaN."""
    if infer_backend(x) == "torch":
        return norm(x, axis)  # torch takes the gradient at zero to be zero
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
    return norm(stop_gradient(x), tuple(range(keep, x.ndim))) + tiny(x) ** 0.5


def peak(x: Array) -> Array:
    """Largest modulus in ``x`` (batch, ...) as a constant (batch,), or 1 where all is zero.

    Unlike a norm it squares nothing: what is as small as the dtype can hold stays.
    """
    flat = do("reshape", do("abs", stop_gradient(x)), (x.shape[0], -1))
    top = largest(flat, 1)[:, 0]
    return do("where", top > 0, top, do("ones_like", top))


def spread(cores: list[Array], log_scale: Array) -> tuple[Array, ...]:
    """Multiply a batched chain by ``exp(log_scale)``, spread evenly over its cores.

    Parameters
    ----------
    cores : list of array (batch, left, phys, right)
    log_scale : array (batch,)
        Natural logarithm of the factor. Even spreading keeps a chain of a thousand sites
        representable in float32 though its norm is not.
    """
    L = len(cores)
    factor = as_dtype_of(do("exp", log_scale / L), cores[0])
    # the rounding of the factor would be repeated L times: the first core makes up for it
    rest = as_dtype_of(do("exp", log_scale - L * log(factor)), cores[0])
    factor = factor[:, None, None, None]
    return (cores[0] * (factor * rest[:, None, None, None]), *(c * factor for c in cores[1:]))


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
        Drawn once and kept: they are not writeable.

    Examples
    --------
    >>> [omega.shape for omega in test_matrices((2, 3, 4), size=5, seed=0)]
    [(5, 2), (5, 3)]
    """
    return gaussians(int(size), int(seed), *map(int, dims))


@lru_cache(maxsize=64)
def gaussians(size: int, seed: int, *dims: int) -> tuple[np.ndarray, ...]:
    """Draw :func:`test_matrices`; with plain arguments, for :func:`ftnn.arrays.backend.drawn`."""
    drawn = []
    for site, dim in enumerate(dims[:-1]):
        drawn.append(np.random.default_rng((seed, site)).standard_normal((size, dim)))
        drawn[-1].flags.writeable = False
    return tuple(drawn)


test_matrices.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test
