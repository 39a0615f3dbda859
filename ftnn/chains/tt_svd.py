"""TT-SVD: dense vectors as chains, batched."""

import math

from autoray import do

from ..arrays.backend import Array, eps, real_name
from ..arrays.functions import abs2, permute
from ..arrays.orthonormal import NULL_FACTOR
from ..arrays.svd import pivot_phase
from .bonds import MaxBond, bond_at


def tt_svd(
    array: Array, dims: tuple[int, ...], max_bond: MaxBond | None = None, rtol: float = 0.0
) -> tuple[Array, ...]:
    """Decompose dense vectors by batched TT-SVD (Oseledets 2011, algorithm 1).

    Parameters
    ----------
    array : array (batch, prod(dims))
    dims : tuple of int
    max_bond : int or tuple of int, optional
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
        u, s, vh = truncated_svd(rest, bond_at(max_bond, k + 1), budget)
        cores.append(do("reshape", u, (batch, left, dim, u.shape[2])))
        left, rest = u.shape[2], s[:, :, None] * vh
    cores.append(do("reshape", rest, (batch, left, dims[-1], 1)))
    return tuple(cores)


def truncated_svd(
    matrix: Array, max_bond: int | None, budget: Array | None
) -> tuple[Array, Array, Array]:
    """Truncate a batched SVD to the smallest bond, common to the batch, within the error budget.

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
    live = do("astype", s > 0, real_name(u))
    return u * live[:, None, :], s, vh * live[:, :, None]


def _fix_signs(u: Array, vh: Array) -> tuple[Array, Array]:
    phase = pivot_phase(u)  # (batch, 1, k)
    return u * do("conj", phase), vh * permute(phase, 0, 2, 1)
