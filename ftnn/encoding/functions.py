r"""Functions on [0, 1) as MPS on quantics grids of any resolution, by multiscale interpolation.

The grid has the points :math:`x = \sum_{k=1}^{L} b_k 2^{-k}`; site k holds the bit :math:`b_k`,
coarse to fine. In every cell of a coarse grid the function is replaced by the polynomial of degree
q through its values at Chebyshev nodes :math:`y_n` of the cell. From there on halving is exact: on
the half b of a cell the polynomial has the node values

.. math:: v'_m = \sum_n v_n\, \ell_n\!\big(\tfrac{b + y_m}{2}\big)

with the Lagrange polynomials :math:`\ell_n`, which is a core (left n, phys b, right m), the same at
every finer site (Lindsey, arXiv:2311.12554). The function is evaluated on the coarse grid alone,
and the cost grows with the number of sites, not of points.
"""

from collections.abc import Callable

import numpy as np

from ..chains.dims import check_positive
from ..chains.states import MPS
from ..chains.terms import Cores
from ..truncation import compress


def from_function(
    function: Callable[[np.ndarray], np.ndarray],
    sites: int,
    coarse: int = 6,
    degree: int = 10,
    rtol: float = 1e-8,
) -> MPS:
    """Interpolate functions on 2^sites points of [0, 1) as a batch of MPS.

    Parameters
    ----------
    function : callable
        Maps points (n,) in [0, 1) to the values (batch, n) of all functions of the batch, real.
        Smooth within each of the coarse cells.
    sites : int
        L; the sites have dimension 2.
    coarse : int
        The function is replaced by polynomials on 2^coarse cells. A grid with no more points than
        that holds the exact values.
    degree : int
        Degree of the polynomials.
    rtol : float
        Relative error, for every function, of the final truncation; 0 keeps all.

    Returns
    -------
    MPS
        float64, on NumPy; its bonds are common to the batch.

    Raises
    ------
    ValueError
        If the function returns other shapes, or a NaN or an infinity.

    See Also
    --------
    from_callable : for any function, of several variables or of indices.

    Examples
    --------
    >>> x = from_function(lambda x: np.stack([np.sin(2 * np.pi * x), x**2]), sites=30)
    >>> x.L, x.batch_size, max(x.bond_dims)
    (30, 2, 3)
    >>> from_function(lambda x: x[None] ** 2, sites=3, coarse=1, degree=2).to_dense().round(6) + 0.0
    array([[0.      , 0.015625, 0.0625  , 0.140625, 0.25    , 0.390625,
            0.5625  , 0.765625]])
    """
    for name, value in (("sites", sites), ("coarse", coarse), ("degree", degree)):
        check_positive(value, name)
    if sites <= coarse:
        values = _values(function, np.arange(2**sites) / 2**sites)
        return MPS.from_dense(values, (2,) * sites, rtol=rtol)
    nodes = chebyshev_nodes(degree)
    points = (np.arange(2**coarse)[:, None] + nodes) / 2**coarse
    values = _values(function, points.ravel())  # (batch, cells * nodes)
    head = MPS.from_dense(values, (2,) * coarse + (degree + 1,), rtol=0.1 * rtol)
    *cores, last = head.cores
    halving = _halving(degree, nodes)  # (n, 2, m)
    cores.append(np.einsum("bln,npm->blpm", last[..., 0], halving))
    middle = np.broadcast_to(halving, (len(values), *halving.shape))
    cores += [middle] * (sites - coarse - 1)
    # after the last bit a cell is one point of the grid, at its left end
    cores[-1] = cores[-1] @ lagrange(degree, np.zeros(1))
    full = MPS(tuple(np.ascontiguousarray(core) for core in cores))
    return compress(full, method="direct", rtol=rtol) if rtol else full


def chebyshev_nodes(degree: int) -> np.ndarray:
    """Return the Chebyshev nodes (degree + 1,) of [0, 1], of the first kind."""
    return 0.5 - 0.5 * np.cos(np.pi * (2 * np.arange(degree + 1) + 1) / (2 * degree + 2))


def lagrange(degree: int, points: np.ndarray) -> np.ndarray:
    """Evaluate the Lagrange polynomials of the Chebyshev nodes at points: array (degree + 1, n).

    Examples
    --------
    >>> bool(np.allclose(lagrange(4, chebyshev_nodes(4)), np.eye(5)))
    True
    """
    nodes = chebyshev_nodes(degree)
    gaps = nodes[:, None] - nodes + np.eye(degree + 1)
    values = np.empty((degree + 1, len(points)))
    for n in range(degree + 1):
        ratios = (points[:, None] - nodes) / gaps[n]
        values[n] = np.prod(np.delete(ratios, n, axis=1), axis=1)
    return values


def on_coarser_grid(cores: Cores, sites: int) -> np.ndarray:
    """Return values (batch, 2^sites) at the points whose bits beyond ``sites`` are zero.

    Parameters
    ----------
    cores : tuple of array (batch, left, 2, right)
        On NumPy.
    sites : int
        At most as many as there are cores.

    Examples
    --------
    >>> x = from_function(lambda x: x[None], sites=20)
    >>> on_coarser_grid(x.cores, 2).round(6) + 0.0
    array([[0.  , 0.25, 0.5 , 0.75]])
    """
    check_positive(sites, "sites")
    if sites > len(cores):
        raise ValueError(f"sites is {sites}, but the chain has {len(cores)}")
    rest = np.ones((len(cores[0]), 1, 1))
    for core in reversed(cores[sites:]):
        rest = core[:, :, 0, :] @ rest
    head = [*cores[:sites]]
    head[-1] = np.einsum("blpr,brm->blpm", head[-1], rest)
    return MPS(tuple(head)).to_dense()


def _halving(degree: int, points: np.ndarray) -> np.ndarray:
    """Return the core (n, 2, m) from node values of a cell to values at points of its halves."""
    return np.stack([lagrange(degree, (bit + points) / 2) for bit in (0, 1)], axis=1)


def _values(function: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> np.ndarray:
    values = np.asarray(function(points), dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(points) or len(values) == 0:
        raise ValueError(
            f"function returned an array of shape {values.shape} for {len(points)} points, "
            f"expected (batch, {len(points)})"
        )
    if not np.isfinite(values).all():
        raise ValueError("function returned NaN or infinite values")
    return values
