"""Orthonormal bases of stacks of matrices, unique, with safe gradients."""

from autoray import do

from .backend import Array, as_dtype_of, eps, in_single, tiny, widest
from .functions import (
    add_diagonal,
    adjoint,
    at_least,
    cholesky,
    diagonal,
    invert_lower,
    norm,
    tril,
)
from .gradients import custom_vjp

NULL_FACTOR = 4.0
"""A row is null if its new part is below this many times the rounding error it carries."""


def orthonormalize(y: Array, magnitude: Array | None = None) -> Array:
    r"""Return a unique orthonormal basis of the rows of ``y``, with null rows exactly zero.

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
    return as_dtype_of(_orthonormal(y, magnitude), y)


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
    L is the Cholesky factor of the Gram matrix: only small matrix products and small triangular
    factors are involved. Squaring halves the digits. In single precision the Gram matrix is formed
    in double precision: what is lost then lies below the rounding of the input. In double precision
    three rounds follow each other (shifted CholeskyQR3: Fukaya, Kannan, Nakatsukasa, Yamamoto,
    Yanagisawa, SIAM J. Sci. Comput. 42, A477, 2020), the shift in proportion to the squared rows,
    as if the rows were rescaled to norm 1 in each round: so a row whose new part is small is
    resolved as well as by Householder reflections. The shift keeps the factorization of a
    rank-deficient matrix going.
    """
    q = widest(y)  # JAX may have no double precision
    single = in_single(y) and not in_single(q)
    rounds = 1 if single else 3
    shift = 4 * y.shape[-2] * eps(q)
    inverse: Array = None
    norms: Array = None
    zero: Array = None
    for n in range(rounds):
        gram = q @ adjoint(q)  # (..., s, s)
        square = do("real", diagonal(gram))
        # below the floor a row is zero; twice, since some devices flush subnormal numbers to zero
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
    null = null | zero  # whose squared magnitude may also underflow to zero
    length = do("sqrt", do("where", null, do("ones_like", short), 1.0 - short))
    live = as_dtype_of(do("logical_not", null), length)
    return (step * as_dtype_of(live / length, step)[..., None]) @ q, null, norms


def lq_positive(y: Array, magnitude: Array | None = None) -> tuple[Array, Array, Array, Array]:
    """Return the factors behind :func:`orthonormalize`, from which its gradient follows.

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
    low = tril(as_dtype_of(y, q) @ adjoint(q)) / as_dtype_of(norms, q)[..., None]
    scale = as_dtype_of(norms + tiny(y) ** 0.5, do("real", y))
    return as_dtype_of(q, y), as_dtype_of(low, y), null, scale


def _squares(x: Array) -> Array:
    """Return the squared norms of rows."""
    return norm(x, (-1,)) ** 2


def orthonormalize_vjp(grad: Array, q: Array, low: Array, null: Array, scale: Array) -> Array:
    """Return the gradient of :func:`orthonormalize`, given its factors; derived there.

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

    m = grad @ adjoint(q)  # (..., s, s)
    lower = tril(m, -1)
    middle = as_dtype_of(do("real", diagonal(m)), q)[..., None] * eye
    sym = lower + adjoint(lower) + middle
    inverse = invert_lower(low) / scale[..., None, :]
    return adjoint(inverse) @ (grad - sym @ q)


def _vjp(grad: Array, needed: tuple[bool, ...], *factors: Array) -> tuple[Array | None, ...]:
    return orthonormalize_vjp(grad, *factors), None


_orthonormal = custom_vjp(
    lq_positive, _vjp, save="outputs", plain=lambda *inputs: orthonormal_rows(*inputs)[0]
)
