r"""Functions of two scales as MPS: F(x, x/ε) on grids that resolve a small ε = 2^-n.

F(x, y) has period 1 in y and is smooth in both. The grid has the midpoints of :math:`2^L` cells;
the first n bits of x number the periods, X = m ε, and the others are the bits of y, so that
:math:`x = X + εy`. As a function of X and y,

.. math:: V(X, y) = F(X + εy, y)

is smooth in X on the scale of 1, though x/ε is not in x. Both are interpolated by polynomials, X on
the cells of a coarse grid and y on parts of a period, and from there on halving a cell is a
constant core (:mod:`ftnn.encoding.functions`). The cost is that of one tensor of V at the nodes,
whatever ε and the grid.
"""

from collections.abc import Callable

import numpy as np

from ...chains.states import MPS
from ...encoding.functions import chebyshev_nodes, lagrange
from ...truncation import compress

SLOW_CELLS, SLOW_DEGREE = 6, 6
"""Bits of the coarse grid of X, and degree of the polynomials on its cells."""

FAST_CELLS, FAST_DEGREE = 5, 8
"""The same for y, on parts of a period."""


def from_two_scales(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    sites: int,
    bits: int,
    rtol: float = 1e-7,
) -> MPS:
    """Interpolate functions F(x, x/ε), ε = 2^-bits, at the midpoints of 2^sites cells of [0, 1).

    Parameters
    ----------
    function : callable
        Maps x and y, arrays (n,), to values (batch, n), real; of period 1 in y, and smooth. Values
        of x go beyond 1 by at most ε.
    sites : int
        L; the sites have dimension 2, and the first ``bits`` of them number the periods.
    bits : int
        At least 1, at most ``sites - 1``.
    rtol : float
        Relative error, for every function, of the final truncation.

    Returns
    -------
    MPS
        float64, on NumPy; its bonds are common to the batch.

    Raises
    ------
    ValueError
        If ``bits`` is not between 1 and ``sites - 1``.

    Examples
    --------
    >>> x = from_two_scales(lambda x, y: (x + np.sin(2 * np.pi * y))[None], sites=30, bits=20)
    >>> x.L, max(x.bond_dims)
    (30, 3)
    """
    if not 1 <= bits < sites:
        raise ValueError(f"bits is {bits}, expected an integer from 1 to sites - 1 = {sites - 1}")
    coarse, cells = min(bits, SLOW_CELLS), min(sites - bits, FAST_CELLS)
    left, middle = np.zeros(1), np.full(1, 0.5)  # of a period, of a cell of the grid
    slow = chebyshev_nodes(SLOW_DEGREE) if bits > coarse else left
    fast = chebyshev_nodes(FAST_DEGREE) if sites - bits > cells else middle
    start = ((np.arange(2**coarse)[:, None] + slow) / 2**coarse).ravel()  # X
    phase = ((np.arange(2**cells)[:, None] + fast) / 2**cells).ravel()  # y
    x = (start[:, None] + 0.5**bits * phase).ravel()
    values = function(x, np.tile(phase, len(start)))
    dims = (2,) * coarse + (len(slow),) + (2,) * cells + (len(fast),)
    cores = MPS.from_dense(values, dims, rtol=0.1 * rtol).cores
    first = _with_bits(cores[:coarse], cores[coarse], bits - coarse, left)
    second = _with_bits(cores[coarse + 1 : -1], cores[-1], sites - bits - cells, middle)
    return compress(MPS((*first, *second)), method="direct", rtol=rtol)


def _with_bits(
    cores: tuple[np.ndarray, ...], nodes: np.ndarray, more: int, point: np.ndarray
) -> list[np.ndarray]:
    """Replace a site of node values (batch, left, node, right) by sites of bits.

    The polynomials are evaluated at ``point``, (1,), of the last cells. Without more bits the only
    node is that point.
    """
    batch, left, count, right = nodes.shape
    if more == 0:
        return [*cores[:-1], np.einsum("blpm,bmr->blpr", cores[-1], nodes[:, :, 0])]
    own = chebyshev_nodes(count - 1)
    halving = np.stack([lagrange(count - 1, (bit + own) / 2) for bit in (0, 1)], axis=1)
    first = np.einsum("blnr,npm->blpmr", nodes, halving).reshape(batch, left, 2, -1)
    step = np.einsum("npm,rs->nrpms", halving, np.eye(right))
    step = step.reshape(count * right, 2, count * right)
    new = [first, *[np.broadcast_to(step, (batch, *step.shape))] * (more - 1)]
    value = lagrange(count - 1, point)[:, 0]  # (node,)
    new[-1] = np.einsum("blpms,m->blps", new[-1].reshape(*new[-1].shape[:3], count, right), value)
    return [*cores, *new]
