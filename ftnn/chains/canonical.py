r"""Canonical forms: the whole norm is in one core, the others are isometries.

From both ends, sites are absorbed into an orthonormal basis of the part beyond a cut: with
:math:`Y_k` the triangular factor of the cut times core k, as a matrix (left * phys, right),

.. math:: Y_k = Q_k R_k, \qquad Y_{k+1} = R_k\, C_{k+1},

and :math:`Q_k` is the new core. The center absorbs the remaining factors of both sides.
"""

from functools import lru_cache

import numpy as np
from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import adjoint, log, matrix_transpose, permute, stop_gradient
from ..arrays.orthonormal import orthonormalize
from ..arrays.random import draw_arrays
from ..arrays.scales import peak, safe_norm, unit_scale
from .absorption import absorb_state
from .overlap import absorb_each, absorb_sites
from .states import MPS
from .terms import Cores

FORMS = ("left", "right")


def canonical(x: MPS, center: int | str) -> tuple[MPS, Array]:
    r"""Return the canonical form of every state of a batch, and its norm in log scale.

    Cores left of the center become left isometries,
    :math:`\sum_{lp} \bar C_{lpr} C_{lpr'} = \delta_{rr'}`, cores right of it right isometries,
    and the center has norm 1.

    Parameters
    ----------
    x : MPS
    center : int or {"left", "right"}
        Site that holds the norm, negative from the end; "left" is the left-canonical form, whose
        center is the last site, "right" the right-canonical one, whose center is the first.

    Returns
    -------
    mps : MPS
        States of norm 1; a zero vector stays zero. Bonds are no larger than what the sites on
        the outer side of them can carry. Directions that a sample does not need are zeros, so
        that there the identity above has zeros on the diagonal.
    log_norm : array (batch,)
        Natural logarithm of the norms, in double precision where the backend has it:
        ``x`` is ``exp(log_norm) * mps``. Minus infinity for a zero vector.

    Raises
    ------
    TypeError
        If ``x`` is not an MPS.
    ValueError
        If ``center`` is neither a site nor a form.

    Notes
    -----
    Differentiable, with finite gradients for every finite input. The choice of isometries depends
    on the gauge of ``x``; :class:`ftnn.nonlinear.SVDGauge` and :class:`ftnn.nonlinear.SketchGauge`
    are gauges that do not. In quimb it is ``canonicalize(center)``, in ITensorMPS
    ``orthogonalize(psi, center)``.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((5, 16)), (2, 2, 2, 2))
    >>> y, log_norm = ftnn.canonical(x, center=1)
    >>> bool(np.allclose(np.exp(log_norm)[:, None] * y.to_dense(), x.to_dense()))
    True
    >>> q = y.cores[3][..., 0]  # right of the center: (batch, left, phys)
    >>> bool(np.allclose(q @ q.swapaxes(1, 2), np.eye(2)))
    True
    """
    if not isinstance(x, MPS):
        raise TypeError(
            f"x is a {type(x).__name__}, expected an MPS; evaluate a lazy network with "
            "ftnn.compress first"
        )
    site = site_of(center, x.L)
    cores, log_norm = canonical_cores(x.cores, site)
    alive = safe_norm(cores[site], (1, 2, 3)) > 0
    return MPS(cores), do("where", alive, log_norm, -np.inf * do("ones_like", log_norm))


def canonical_cores(cores: Cores, center: int) -> tuple[Cores, Array]:
    """Bring a batched chain to canonical form around a site.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
    center : int
        0 ... L - 1.

    Returns
    -------
    cores : tuple of array (batch, left, phys, right)
        The center has norm 1, or is zero.
    log_norm : array (batch,)
        Finite: for a zero vector the sum of what was divided out before it vanished.
    """
    lefts, before, log_norm = isometries(cores[:center], cores[center])
    rights, after, other = isometries(reverse_chain(cores[center + 1 :]), cores[center])
    batch, _, phys, _ = cores[center].shape
    middle = absorb_state(before, cores[center]) @ matrix_transpose(after)
    middle = do("reshape", middle, (batch, -1, phys, after.shape[1]))
    scale = peak(middle)  # (batch, 1, 1, 1): squares of what it leaves neither vanish nor overflow
    middle = middle / scale
    norm = safe_norm(middle, (1, 2, 3))
    norm = do("where", norm > 0, norm, do("ones_like", norm))
    middle = middle / norm[:, None, None, None]
    log_norm = log_norm + other + log(do("reshape", scale, (-1,))) + log(norm)
    return (*lefts, middle, *reverse_chain(rights)), log_norm


def isometries(cores: Cores, like: Array) -> tuple[Cores, Array, Array]:
    """Bring the sites left of a cut to left-canonical form.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
        Cores of all sites left of the cut, possibly none.
    like : array (batch, ...)
        Determines batch, backend, dtype and device.

    Returns
    -------
    cores : tuple of array (batch, left, phys, right)
        Isometries.
    factor : array (batch, m, right)
        Remaining factor: the sites are ``cores`` times ``factor * exp(log_scale)``.
    log_scale : array (batch,)
    """
    batch, out = like.shape[0], []

    def split(y: Array, k: int) -> Array:
        """Keep Q of ``Q R = y``, (batch, left * phys, right) of site k, and return R."""
        q, r = isometry(y)
        out.append(do("reshape", q, (batch, -1, cores[k].shape[2], q.shape[2])))
        return r

    def step(y: Array, k: int) -> Array:
        return absorb_state(split(y, k - 1) if k else y, cores[k])

    y, log_scale = absorb_sites(step, do("ones", (batch, 1, 1), like=like), range(len(cores)))
    factor = split(y, len(cores) - 1) if cores else y
    return tuple(out), factor, log_scale


def cut_factors(cores: Cores) -> list[Array]:
    r"""Return a triangular factor of everything left of every inner cut.

    Of a QR decomposition of the sites left of a cut, as a matrix with the bond for columns, it is
    R, up to a scale: all that singular values across the cut and Gram matrices depend on.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)

    Returns
    -------
    list of array (batch, m, right)
        ``L - 1`` of them, with m at most ``right``, of largest modulus 1, or 0.

    Notes
    -----
    Q is a constant of differentiation: with :math:`R = Q^\dagger Y` what dY adds outside of the
    span of Q has no first-order effect on singular values, and how Q turns has none at all. So
    gradients of singular values are right, and finite also where Y is rank-deficient, where that
    of a QR decomposition is not.
    """

    def step(r: Array, k: int) -> Array:
        y = absorb_state(r, cores[k])  # (batch, m * phys, right)
        q, _ = do("linalg.qr", stop_gradient(y))
        return adjoint(q) @ y

    edge = do("ones", (cores[0].shape[0], 1, 1), like=cores[0])
    return [env.array for env in absorb_each(step, edge, range(len(cores) - 1))[1:]]


def isometry(y: Array, noise: float = 1.0) -> tuple[Array, Array]:
    """Return an orthonormal basis of the columns of a stack of matrices, and its coefficients.

    The columns are first mixed by a fixed random matrix: a rank deficiency in any columns then
    shows in the last ones, where :func:`orthonormalize` detects it.

    Parameters
    ----------
    y : array (batch, n, m)
    noise : float
        Rounding error of the entries, in units of eps times the norm of ``y``: directions within
        it are null.

    Returns
    -------
    q : array (batch, n, m'), m' = min(n, m)
        Orthonormal columns; null ones are zero.
    r : array (batch, m', m)
        ``q^H y``, so that ``q r = y``.
    """
    n, m = y.shape[1:]
    (mixer,) = draw_arrays(mixers, m, min(n, m), like=y)
    magnitude = noise * unit_scale(y, 1)[:, None]  # (batch, 1)
    magnitude = do("broadcast_to", magnitude, (y.shape[0], min(n, m)))
    rows = orthonormalize(matrix_transpose(y @ mixer), magnitude)  # (batch, m', n)
    return matrix_transpose(rows), do("conj", rows) @ y


@lru_cache(maxsize=64)
def mixers(rows: int, columns: int) -> tuple[np.ndarray]:
    """Draw the fixed random matrix (rows, columns) of :func:`isometry`."""
    return (np.random.default_rng(rows).standard_normal((rows, columns)) / rows**0.5,)


def site_of(center: int | str, L: int) -> int:
    """Return the center as a site 0 ... L - 1, or raise ``ValueError``."""
    if center in FORMS:
        return L - 1 if center == "left" else 0
    if isinstance(center, (bool, str)) or not isinstance(center, (int, np.integer)):
        raise ValueError(f"center is {center!r}; expected a site, or one of {', '.join(FORMS)}")
    if not -L <= center < L:
        raise ValueError(f"center is {center}, but there are {L} sites, 0 ... {L - 1}")
    return int(center) % L


def reverse_chain(cores: Cores) -> Cores:
    """Return the chain read from right to left."""
    return tuple(permute(core, 0, 3, 2, 1) for core in cores[::-1])
