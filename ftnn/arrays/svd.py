"""Dominant subspaces of stacks of matrices, with safe gradients."""

from autoray import do

from .backend import Array, as_dtype_of, eps, real_name, tiny
from .functions import adjoint, largest, stop_gradient, take_along, thin_svd
from .gradients import custom_vjp
from .orthonormal import NULL_FACTOR


def pivot_phase(u: Array) -> Array:
    """Return the phase (batch, 1, k) of the largest entry of each column of ``u`` (batch, n, k)."""
    size = do("abs", stop_gradient(u))
    # ties broken towards the first entry, up to rounding, so that backends agree
    near = size >= (1 - 1e3 * eps(u)) * largest(size, 1)
    first = do("argmax", do("astype", near, "int64"), 1)  # (batch, k)
    index = do("reshape", first, (*first.shape[:1], 1, *first.shape[1:]))
    pivot = take_along(u, index, 1)  # (batch, 1, k)
    modulus = do("abs", pivot)
    one = do("ones_like", pivot)
    dead = modulus == 0
    return do("where", dead, one, pivot / do("where", dead, do("ones_like", modulus), modulus))


def left_singular(y: Array) -> tuple[Array, Array]:
    r"""Compute left singular vectors and singular values of a stack of matrices.

    Parameters
    ----------
    y : array (batch, n, m)

    Returns
    -------
    u : array (batch, n, p), p = min(n, m)
        The largest entry of every column is real and positive.
    s : array (batch, p)
        In descending order. On torch they carry no gradient.

    Notes
    -----
    With :math:`W = U^\dagger \bar U` the gradient on torch is

    .. math:: \bar Y = U\,\bigl(F \circ (W - W^\dagger)\bigr)\,S V^\dagger
              + (1 - U U^\dagger)\,\bar U S^{-1} V^\dagger, \qquad
              F_{ij} = \frac{1}{s_j^2 - s_i^2}.

    Derivation: :math:`dU = U\Omega + (1-UU^\dagger)\,dY\,V S^{-1}` with
    :math:`\Omega_{ij} = F_{ij}(dP_{ij} s_j + s_i \overline{dP_{ji}})` and
    :math:`dP = U^\dagger dY V`; collecting the terms of :math:`\Re\,\mathrm{tr}(\bar U^\dagger dU)`
    gives the formula. Both denominators are broadened: with :math:`x` the relative gap
    :math:`(s_j - s_i) / \max(s_i, s_j)`, :math:`1/x` becomes :math:`x/(x^2 + \epsilon^{4/3})`, so
    that gradients stay finite where singular values are equal, and are exact to
    :math:`\epsilon^{4/3}/x^2` where they are not. Functions of the subspace alone, such as the
    truncated tensor, do not depend on the terms between two retained vectors.
    """
    u, s = _left_singular(y)
    return u * do("conj", pivot_phase(u)), s


def left_singular_vjp(grad: Array, u: Array, s: Array, vh: Array) -> Array:
    """Return the gradient of :func:`left_singular`, given the factors; derived there.

    Parameters
    ----------
    grad : array (batch, n, p)
        Upstream gradient of ``u``, in torch's convention for complex numbers.
    u, s, vh : array
        The factors.

    Returns
    -------
    array (batch, n, m)
    """
    small = tiny(u) ** 0.5
    first, second = s[..., :, None], s[..., None, :]
    larger = do("where", first > second, first, second) + small
    # s_j / ((s_j - s_i)(s_j + s_i)), with every difference in units of the larger of the two
    gap = _broadened((second - first) / larger, u)
    factor = gap / ((second + first) / larger + tiny(u)) * (second / larger) / larger
    w = adjoint(u) @ grad
    inner = as_dtype_of(factor, u) * (w - adjoint(w))
    top = s[..., :1] + small
    inverse = _broadened(s / top, u) / top
    outer = (grad - u @ w) * as_dtype_of(inverse, u)[..., None, :]
    return (u @ inner + outer) @ vh


def hermitian_vectors_vjp(grad: Array, values: Array, u: Array) -> Array:
    """Return the gradient of the eigenvectors, given the factors; see :func:`hermitian_vectors`.

    Parameters
    ----------
    grad : array (batch, n, n)
        Upstream gradient of ``u``, in torch's convention for complex numbers.
    values, u : array
        The factors.

    Returns
    -------
    array (batch, n, n)
    """
    size = do("abs", values)
    first, second = size[..., :, None], size[..., None, :]
    larger = do("where", first > second, first, second) + tiny(u) ** 0.5
    gap = _broadened((values[..., None, :] - values[..., :, None]) / larger, u)
    inner = as_dtype_of(gap / larger, u) * (adjoint(u) @ grad)
    grad = u @ inner @ adjoint(u)
    return 0.5 * (grad + adjoint(grad))


def _broadened(x: Array, like: Array) -> Array:
    """Return ``1 / x``, bounded where ``x`` is below the rounding of ``like`` to the power 2/3."""
    return x / (x * x + eps(like) ** (4 / 3))


def leading(u: Array, s: Array, bond: int) -> Array:
    """Return the first ``bond`` columns of ``u`` (batch, n, p), with null columns exactly zero."""
    live = do("astype", s > NULL_FACTOR * eps(u) * s[:, :1], real_name(u))
    return u[:, :, :bond] * live[:, None, :bond]


def smallest_bond(s: Array, rtol: float, cuts: int, max_bond: int) -> int:
    """Return the smallest bond common to the batch that keeps every sample within tolerance.

    Parameters
    ----------
    s : array (batch, p)
        Singular values, descending.
    rtol : float
        Relative error allowed for the whole chain; each of its ``cuts`` gets an equal share of
        the square.
    cuts, max_bond : int

    Returns
    -------
    int
        At least 1. Synchronizes with the device.
    """
    lost = discarded_weight(s)  # (batch, p)
    enough = do("all", lost <= rtol**2 / max(cuts, 1), axis=0)  # (p,): keeping j + 1 is enough
    keep = s.shape[1] - int(do("sum", do("astype", enough, "int64"))) + 1
    return max(1, min(keep, max_bond))


def discarded_weight(s: Array) -> Array:
    """Return the relative squared weight lost by keeping 1 ... p singular values, (batch, p)."""
    square = s * s
    rest = do("flip", do("cumsum", do("flip", square, (1,)), 1), (1,))  # from each one on
    total = rest[:, :1]
    return (rest - square) / do("where", total > 0, total, do("ones_like", total))


def hermitian_vectors(h: Array) -> tuple[Array, Array]:
    r"""Compute eigenvectors and eigenvalues, in descending order, of a stack of Hermitian matrices.

    Parameters
    ----------
    h : array (batch, n, n)

    Returns
    -------
    u : array (batch, n, n)
        The largest entry of every column is real and positive.
    values : array (batch, n)
        On torch they carry no gradient.

    Notes
    -----
    The gradient, :math:`\bar H = U (F \circ U^\dagger\bar U) U^\dagger` made Hermitian, with
    :math:`F_{ij} = 1/(\lambda_j - \lambda_i)`, is broadened as that of :func:`left_singular`.
    """
    u, values = _hermitian_vectors(h)
    return u * do("conj", pivot_phase(u)), values


def _eigh(h: Array) -> tuple[Array, Array]:
    values, u = do("linalg.eigh", h)
    return do("flip", u, (2,)), do("flip", values, (1,))


def _left_singular_vjp(
    grad: Array, needed: tuple[bool, ...], u: Array, s: Array, vh: Array
) -> tuple[Array]:
    return (left_singular_vjp(grad, u, s, vh),)


def _hermitian_vectors_vjp(
    grad: Array, needed: tuple[bool, ...], u: Array, values: Array
) -> tuple[Array]:
    return (hermitian_vectors_vjp(grad, values, u),)


_left_singular = custom_vjp(thin_svd, _left_singular_vjp, save="outputs", outputs=2)
_hermitian_vectors = custom_vjp(_eigh, _hermitian_vectors_vjp, save="outputs", outputs=2)
