r"""Sketched left environments: what Khatri-Rao test vectors leave of the sites left of a cut.

:math:`E_{k+1}` is the contraction of :math:`E_k`, the test matrix of site k (s, out_k) and site k;
row j of E uses row j of every test matrix. Each row is scaled to norm 1 in each term; the
logarithms of the scales weigh the terms against each other where they meet, in the sketch E M.
"""

import math
from typing import NamedTuple

from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import concat, largest, replace_small, replace_zeros, stack, sum_over
from ..arrays.scales import DEAD, log_dead, unit_scale, zero_bound
from .sum import Blocks, Sum, cap_log

Omegas = tuple[Array, ...]
"""Test matrices (size, out_k) of sites 0 ... L - 2."""


class Rows(NamedTuple):
    """Sketched left environments of a cut.

    Attributes
    ----------
    envs : tuple of array (batch, s, w_t)
        One per term.
    logs : array (t, batch, s) or None
        Logarithm of what was divided out of the rows; None if it is not needed.
    dead : array (t, batch, s) or None
        :data:`DEAD` of rows of zeros, 0 of others; None of a single term.
    """

    envs: Blocks
    logs: Array | None
    dead: Array | None


def edge_rows(total: Sum, size: int, keep_logs: bool = True) -> Rows:
    """Return equal rows left of site 0, with the sizes of the terms in their logarithms."""
    ones = do("ones", (1, size, 1), like=total.like)
    envs = tuple(ones * sign for sign in total.signs())
    if not keep_logs:
        return Rows(envs, None, None)
    logs = do("broadcast_to", total.logs[:, :, None], (*total.logs.shape, size))
    return Rows(envs, logs, None if len(envs) == 1 else do("zeros_like", logs))


def sketch(rows: Rows, sites: Blocks, bond: int) -> tuple[Array, Array, Array | None]:
    """Sum E M over the terms, with rows of size one.

    A row is scaled so that its largest term has size 1: with ``sum_t e^(a_t) E_t M_t`` and unit E_t
    the terms have sizes ``e^(a_t) |M_t|``. Zeros have none; but the factor of a term of zeros is
    that of its gradient, by which a bias that starts at zero learns.

    Returns
    -------
    sketch : array (batch, bond, out*r)
    magnitude : array (batch, 1)
        Size of the numbers that went into the rows.
    log : array (batch, bond) or None
        Logarithm of what each row was divided by; None if ``rows`` does not know its own.
    """
    if len(sites) == 1:
        y = rows.envs[0][:, :bond] @ sites[0]
        # the rows of E have norm 1: all rows of Y carry the rounding of the largest
        logs = None if rows.logs is None else rows.logs[0, :, :bond]
        return y, largest(unit_scale(y, 2), 1), logs
    assert rows.logs is not None
    assert rows.dead is not None
    logs = rows.logs[:, :, :bond]  # (terms, batch, bond)
    norms = stack([unit_scale(site, 1) for site in sites], 0)[:, :, None]
    own = replace_small(do("log", norms), math.log(zero_bound(norms)), DEAD)  # (terms, batch, 1)
    sizes = logs + rows.dead[:, :, :bond] + own
    top = largest(sizes, 0)  # (1, batch, bond)
    shift = top * (top > 0.5 * DEAD)  # where all are zero, their scale does not matter
    weights = tuple(do("exp", cap_log(logs - shift, norms))[..., None])
    total = sum(
        (env[:, :bond] * weight) @ site
        for env, weight, site in zip(rows.envs, weights, sites, strict=True)
    )
    magnitude = sum_over(do("exp", sizes - top), (0,))  # (batch, bond)
    return total, largest(magnitude, 1), shift[0]


def sketch_rows(total: Sum, omegas: Omegas, sizes: list[int], keep_logs: bool = True) -> list[Rows]:
    """Compute sketched left environments of every cut, with ``sizes[k]`` rows left of site k.

    The logarithms of a single term need not be kept: the rows may be scaled freely.
    """
    rows = [edge_rows(total, sizes[0], keep_logs or len(total.terms) > 1)]
    for k in range(total.L - 1):
        rows.append(extend_rows(total, k, rows[-1], omegas[k][: sizes[k + 1]]))
    return rows


def extend_rows(total: Sum, k: int, rows: Rows, omega: Array) -> Rows:
    """Absorb site ``k`` into the rows; those that are left have norm 1, or are zero."""
    size = omega.shape[0]
    envs = [
        term.extend_left(env[:, :size], k, omega)
        for term, env in zip(total.terms, rows.envs, strict=True)
    ]
    scales = [unit_scale(env, 2) for env in envs]
    if len(envs) == 1:
        logs = None if rows.logs is None else rows.logs[:, :, :size] + do("log", scales[0])[None]
        return Rows((envs[0] / scales[0][:, :, None],), logs, None)
    assert rows.logs is not None
    scale = stack(scales, 0)  # (terms, batch, s)
    dead = log_dead(scale)
    scale = replace_zeros(scale, zero_bound(scale))  # zero rows stay as they are: see sketch
    logs = rows.logs[:, :, :size] + do("log", scale)
    return Rows(tuple(e / x for e, x in zip(envs, scale[..., None], strict=True)), logs, dead)


def append_rows(old: Rows | None, new: Rows) -> Rows:
    """Append rows to those of the same cut, if there are any."""
    if old is None:
        return new
    assert old.logs is not None
    return Rows(
        tuple(concat(pair, 1) for pair in zip(old.envs, new.envs, strict=True)),
        concat((old.logs, new.logs), 2),
        None if new.dead is None else concat((old.dead, new.dead), 2),
    )
