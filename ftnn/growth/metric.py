r"""The bond of an operator in the metric of its outputs on data.

At a cut :math:`W = \sum_\alpha L_\alpha \otimes R_\alpha`. With a matrix X on the bond,
:math:`W_X = \sum_{\alpha\beta} X_{\alpha\beta} L_\alpha \otimes R_\beta`, the outputs of samples
:math:`x_n` have

.. math::

    \sum_n \|W_X x_n\|^2 &= \bar X_{\alpha'\beta'} X_{\alpha\beta}
        K_{\alpha'\alpha,\beta'\beta}, \\
    K_{\alpha'\alpha,\beta'\beta} &= \sum_n
        \langle (L_{\alpha'} \otimes R_{\beta'}) x_n | (L_\alpha \otimes R_\beta) x_n \rangle,

a product of the environments of the two sides. To cut the bond to r is to find the X of rank r for
which :math:`X - 1` is smallest in this form. It has no closed solution, for K is no product of a
left and a right metric; with one of the factors of :math:`X = C V` fixed it is a least squares
problem. The start is the solution for the product of the two marginals of K, in the gauge in which
the bare singular values are shared by both sides; or those singular values alone, if that ends up
better: so the result is never worse than their truncation, at this cut.
"""

from dataclasses import dataclass

import numpy as np

SWEEPS = 4
"""Number of times that both factors of X are improved."""
TINY = 1e-12
"""Relative size below which directions of a metric are zero."""


@dataclass(frozen=True)
class Cut:
    """A bond cut to fewer directions: X is ``left @ right``.

    Attributes
    ----------
    left : array (D, r)
    right : array (r, D)
    error : float
        Squared error of the outputs, relative to their squared size.
    """

    left: np.ndarray
    right: np.ndarray
    error: float


def absorb(env: np.ndarray, weight: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Take a site into the left environment of the overlap of ``W x`` with itself.

    Parameters
    ----------
    env : array (batch, bra weight bond, bra bond, ket weight bond, ket bond)
    weight : array (left, out, in, right)
    core : array (batch, left, in, right)

    Returns
    -------
    array (batch, bra weight bond, bra bond, ket weight bond, ket bond)
    """
    ket = np.einsum("bpqdc,bcis->bpqdis", env, core, optimize=True)
    ket = np.einsum("bpqdis,doie->bpqoes", ket, weight, optimize=True)
    bra = np.einsum("bqjt,pojf->bqptof", core.conj(), weight.conj(), optimize=True)
    return np.einsum("bpqoes,bqptof->bftes", ket, bra, optimize=True)


def scaled(env: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide the environment of every sample by its largest modulus, and add that to its logs."""
    top = np.abs(env).reshape(len(env), -1).max(axis=1)
    top = np.where(top > 0, top, 1.0)
    return env / top.reshape(-1, 1, 1, 1, 1), logs + np.log(top)


def form(left: np.ndarray, right: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Return K, (D bra left, D ket left, D bra right, D ket right), scaled to the batch.

    Parameters
    ----------
    left, right : array (batch, D, bond, D, bond)
        Environments of both sides of a cut.
    logs : array (batch,)
        Logarithm of what was divided out of them.
    """
    weights = np.exp(logs - logs.max())
    D, E = left.shape[1], right.shape[1]
    first = (left * weights.reshape(-1, 1, 1, 1, 1)).transpose(1, 3, 0, 2, 4).reshape(D * D, -1)
    second = right.transpose(0, 2, 4, 1, 3).reshape(-1, E * E)
    return (first @ second).reshape(D, D, E, E)


def size(K: np.ndarray, X: np.ndarray) -> float:
    """Return the squared size of the outputs with X on the bond."""
    part = np.einsum("abcd,bd->ac", K, X)
    return max(float(np.real(np.vdot(X, part))), 0.0)


def cut_to(K: np.ndarray, rank: int) -> Cut:
    """Cut a bond to ``rank`` directions; see the module.

    Parameters
    ----------
    K : array (D, D, D, D)
    rank : int
        At most D.
    """
    D = len(K)
    one = np.eye(D, dtype=K.dtype)
    total = size(K, one) or 1.0
    if rank >= D:
        return Cut(one, one, 0.0)
    best: Cut | None = None
    for C, V in (_weighed(K, rank), (one[:, :rank], one[:rank])):
        found = _improved(K, C, V, total)
        if best is None or found.error < best.error:
            best = found
    assert best is not None
    return best


def smallest(K: np.ndarray, error: float) -> Cut:
    """Cut a bond to the fewest directions whose squared relative error is at most ``error``."""
    low, high = 1, len(K)
    best = cut_to(K, high)
    while low < high:
        middle = (low + high) // 2
        found = cut_to(K, middle)
        if found.error <= error:
            best, high = found, middle
        else:
            low = middle + 1
    return best


def _weighed(K: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors C, V of the best X for the product of the marginals of K."""
    left, left_inverse = _roots(np.einsum("abcc->ab", K))
    right, right_inverse = _roots(np.einsum("aacd->cd", K))
    # |S_L^(1/2) (X - 1) S_R^(1/2)|, where a metric is conj(X) S X: the right one is transposed
    u, s, v = np.linalg.svd(left @ right.T)
    return left_inverse @ (u[:, :rank] * s[:rank]), v[:rank] @ right_inverse.T


def _roots(metric: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the square root of a metric and its pseudoinverse."""
    values, vectors = np.linalg.eigh(metric)
    live = values > TINY * max(values[-1], 1e-300)
    root = np.sqrt(np.where(live, values, 0.0))
    inverse = np.where(live, 1.0 / np.where(live, root, 1.0), 0.0)
    adjoint = vectors.conj().T
    return (vectors * root) @ adjoint, (vectors * inverse) @ adjoint


def _improved(K: np.ndarray, C: np.ndarray, V: np.ndarray, total: float) -> Cut:
    """Improve both factors in turn."""
    one = np.eye(len(K), dtype=K.dtype)
    mirror = K.transpose(2, 3, 0, 1)
    best = Cut(C, V, size(K, C @ V - one) / total)
    for _ in range(SWEEPS):
        C = _solved(K, V)
        V = _solved(mirror, C.T).T
        found = Cut(C, V, size(K, C @ V - one) / total)
        gained = best.error - found.error
        best = found if gained > 0 else best
        if gained <= 0.01 * best.error:
            break
    return best


def _solved(K: np.ndarray, V: np.ndarray) -> np.ndarray:
    """Return the C (D, r) for which C V is nearest to one."""
    D, r = len(K), len(V)
    half = np.einsum("abcd,ic->aibd", K, V.conj(), optimize=True)
    matrix = np.einsum("aibd,jd->aibj", half, V, optimize=True).reshape(D * r, D * r)
    target = np.einsum("aibb->ai", half).reshape(-1)
    solution = np.linalg.lstsq(matrix, target, rcond=TINY)[0]
    return solution.reshape(D, r)
