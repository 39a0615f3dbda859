r"""The projecting sweep, which is the second half of every truncation method.

From right to left, with :math:`M_k` the site k of
the chain T times the right environment :math:`R_{k+1}`, it chooses an orthonormal basis
:math:`Q_k` (bond, out * right), which is core k, and goes on with
:math:`R_k = M_k Q_k^\dagger`; core 0 is :math:`M_0`. Step k replaces T by its orthogonal projection
onto the rows of Q_k at the cut left of site k, inside what the steps before left of it. So whatever
the bases are,

.. math:: \|T - C\|^2 = \|T\|^2 - \|C\|^2, \qquad
          \|C\|^2 / \|T\|^2 = \prod_k (1 - \delta_k),

with :math:`\delta_k` the relative squared weight discarded at cut k. The methods differ in the
left environment by which they choose the basis:

===============  ============================================================================
zipup            none: the operands are brought to left-canonical form instead
direct           the exact one, as the triangular factor of a QR decomposition
dm               the exact one, as its Gram (density) matrix
sdc              the exact one, truncated by SVD from site to site
src              contracted with random vectors
fit              contracted with the approximation of the sweep before
===============  ============================================================================
"""

from collections.abc import Callable
from functools import partial

from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import log, replace_zeros, stack, sum_over
from ..arrays.recompute import step_of_truncation
from ..arrays.scales import safe_norm, spread
from .sketch import edge_rows, sketch
from .sum import Blocks, Sum, project, unit_blocks

Basis = Callable[[int, Blocks], tuple[Array, Array | None]]
"""Given k and M_k, blocks (batch, w_t, out * r): Q_k (batch, s, out * r), and the relative
squared weight (batch,) that it discards, if the method knows it."""


def sweep(total: Sum, basis: Basis) -> tuple[tuple[Array, ...], Array | None]:
    """Project a sum of terms from right to left; see the top of this file.

    Parameters
    ----------
    total : Sum
    basis : callable
        Chooses Q_k; called for k = L - 1 ... 1.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : array (batch, L - 1) or None
        Relative squared weight discarded at every cut, if ``basis`` returns it.
    """
    L, batch, dims = total.L, total.batch, total.dims
    cores: list[Array] = [None] * L
    discarded: list[Array] = []
    rights, scales = total.right_edge(), []
    for k in range(L - 1, 0, -1):
        step = partial(_step, total, basis, k)
        q, lost, rights, scale = step_of_truncation(step, rights)
        cores[k] = do("reshape", q, (batch, q.shape[1], dims[k], -1))
        if lost is not None:
            discarded.insert(0, lost)
        scales.append(scale)
    log_scale, sites = total.log_scale, total.absorb_right(0, rights)
    if len(sites) == 1:
        first = total.signs()[0] @ sites[0]  # (batch, 1, out*r)
    else:
        first, _, log_first = sketch(edge_rows(total, 1), sites, 1)
        assert log_first is not None
        log_scale = log_scale + log_first[:, 0]
    norm = replace_zeros(safe_norm(first, (1, 2)))  # (batch,)
    cores[0] = do("reshape", first / norm[:, None, None], (batch, 1, dims[0], -1))
    known = len(discarded) == L - 1 and L > 1
    # the logarithms of all sites at once: an operation a site would take longer than its work
    log_scale = log_scale + sum_over(log(stack([*scales, norm], 1)), (1,))
    return (
        spread(cores, log_scale),
        stack(discarded, 1) if known else None,
    )


def _step(
    total: Sum, basis: Basis, k: int, rights: Blocks
) -> tuple[Array, Array | None, Blocks, Array]:
    """Return Q_k, the discarded weight, and the next right environments with their scale."""
    sites = total.absorb_right(k, rights)  # (batch, w, out*r)
    q, lost = basis(k, sites)  # (batch, s, out*r)
    return q, lost, *unit_blocks(project(sites, q))
