r"""Batched tensor cross interpolation of a function of the entries of a chain.

A cross interpolation of a matrix A at rows I and columns J is

.. math:: A \approx A[:, J]\, P^{-1} A[I, :], \qquad P = A[I, J],

exact on those rows and columns, and everywhere if A has rank |I|. For a tensor the same is done at
every cut, with nested index sets (Oseledets, Tyrtyshnikov, Linear Algebra Appl. 432, 70, 2010):
:math:`I_{k+1} \subset I_k \times \sigma_k` and :math:`J_k \subset \sigma_k \times J_{k+1}`. Only

.. math:: T_k = f\bigl(x[I_k, \sigma_k, J_{k+1}]\bigr) \quad (r_k\, d_k\, r_{k+1}\ \text{entries})

is ever evaluated, from left and right vectors of x at the index sets. Sweeps back and forth choose
the sets by Gaussian elimination with complete pivoting, which reveals the rank: what is left is the
residual of the interpolation so far, and its largest entry becomes the next pivot (Nunez Fernandez
et al., SciPost Phys. 18, 104, 2025). The cores of the result are :math:`T_k[:, J]\, P_k^{-1}`,
whose entries complete pivoting keeps small.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from autoray import do

from ..arrays.backend import Array, as_dtype_of, as_index, eps, tiny
from ..arrays.functions import matrix_transpose, stop_gradient, take_along
from ..arrays.random import draw_arrays
from ..chains.absorption import absorb_state, absorb_state_right
from ..chains.overlap import Environment, absorb_each, absorb_sites, rescale
from ..chains.terms import Cores

PIVOT_FACTOR = 100.0
"""A pivot is null below this multiple of the rounding error of the first one."""


def interpolate(
    fn: Callable[[Array], Array], cores: Cores, max_bond: int, sweeps: int, seed: int
) -> Cores:
    """Interpolate ``fn`` of every entry of a vector by cores of bond at most ``max_bond``.

    Parameters
    ----------
    fn : callable
    cores : tuple of array (batch, left, phys, right)
    max_bond : int
    sweeps : int
        Number of sweeps to the right and back, before the final one that builds the cores.
    seed : int
        Seed of the initial index sets.

    Returns
    -------
    tuple of array (batch, left, phys, right)
        Shapes are static; directions beyond the rank of a sample are zero. Gradients hold the index
        sets fixed.
    """
    fixed = tuple(stop_gradient(core) for core in cores)
    dims = tuple(core.shape[2] for core in cores)
    bonds = _bonds(cores, max_bond)
    batch = cores[0].shape[0]
    columns = [
        do("broadcast_to", as_index(first, cores[0])[None], (batch, len(first)))
        for first in _first_columns(dims, bonds, seed)
    ]
    for _ in range(sweeps):
        rows, _, _ = _to_the_right(fn, fixed, bonds, columns)
        columns = _to_the_left(fn, fixed, bonds, rows)
    rows, pivot_columns, live = _to_the_right(fn, fixed, bonds, columns)

    lefts, rights = _left_vectors(cores, rows), _right_vectors(cores, columns)
    out = []
    for k, (core, left, right) in enumerate(zip(cores, lefts, rights[1:], strict=True)):
        values = fn(_product(absorb_state(left.array, core), left, right))  # (batch, r*d, r')
        if k:
            values = _masked(values, live[k - 1])
        if k < len(cores) - 1:
            values = _quotient(values, rows[k], pivot_columns[k], live[k])
        out.append(do("reshape", values, (batch, -1, dims[k], values.shape[2])))
    return tuple(out)


def entries(cores: Cores, indices: Array) -> Array:
    """Return the entries of every vector at given places.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
    indices : int array (n, L)
        The same places for every sample.

    Returns
    -------
    array (batch, n)
    """

    def step(left: Array, k: int) -> Array:
        chosen = cores[k][:, :, indices[:, k]]  # (batch, l, n, r)
        return do("einsum", "bnl,blnr->bnr", left, chosen)

    edge = do("ones", (cores[0].shape[0], len(indices), 1), like=cores[0])
    left, log_scale = absorb_sites(step, edge, range(len(cores)))
    return left[:, :, 0] * as_dtype_of(do("exp", log_scale), left)[:, None]


# ---- sweeps --------------------------------------------------------------------------------------


def _to_the_right(
    fn: Callable, cores: Cores, bonds: tuple[int, ...], columns: list[Array]
) -> tuple[list[Array], list[Array], list[Array]]:
    """Choose the left index sets, with their pivot columns and masks of non-null pivots."""
    rights = _right_vectors(cores, columns)
    left, mask = Environment(_edge(cores), do("zeros_like", rights[0].log_scale)), None
    rows, pivot_columns, live = [], [], []
    for k, core in enumerate(cores[:-1]):
        new = absorb_state(left.array, core)  # (batch, r*d, chi)
        values = fn(_product(new, left, rights[k + 1]))  # (batch, r*d, r')
        if mask is not None:
            values = _masked(values, mask)
        row, column, mask = pivots(values, bonds[k + 1])
        left = rescale(_rows(new, row), left.log_scale)
        rows.append(row)
        pivot_columns.append(column)
        live.append(mask)
    return rows, pivot_columns, live


def _to_the_left(
    fn: Callable, cores: Cores, bonds: tuple[int, ...], rows: list[Array]
) -> list[Array]:
    """Choose the right index sets."""
    lefts = _left_vectors(cores, rows)
    right = Environment(_edge(cores), do("zeros_like", lefts[0].log_scale))
    columns: list[Array] = []
    for k in range(len(cores) - 1, 0, -1):
        new = absorb_state_right(right.array, cores[k])  # (batch, chi, d*r')
        values = fn(_product(lefts[k].array, lefts[k], Environment(new, right.log_scale)))
        column, _, _ = pivots(matrix_transpose(values), bonds[k])  # of (batch, r, d*r')
        right = rescale(_columns(new, column), right.log_scale)
        columns.insert(0, column)
    return columns


def pivots(values: Array, count: int) -> tuple[Array, Array, Array]:
    """Choose rows and columns by Gaussian elimination with complete pivoting.

    Parameters
    ----------
    values : array (batch, n, m)
    count : int
        At most min(n, m).

    Returns
    -------
    rows, columns : int array (batch, count)
        All different. Where the residual is zero to rounding they are drawn at random from the
        rest, so that the next sweep may reach what this one missed.
    live : array (batch, count)
        1, or 0 at such null pivots.
    """
    batch, n, m = values.shape
    (chance,) = draw_arrays(_chances, n, m, like=do("abs", values))  # (n, m), in (0, 1)
    chance = chance * (tiny(values) / eps(values))
    places = as_index(np.arange(n), values), as_index(np.arange(m), values)
    rest, free, first = values, None, None
    rows, columns, live = [], [], []
    for _ in range(count):
        score = do("abs", rest) + chance
        score = do("reshape", score if free is None else score * free, (batch, n * m))
        place = do("argmax", score, 1)[:, None]  # (batch, 1)
        row, column = place // m, place % m
        pivot = take_along(do("reshape", rest, (batch, n * m)), place, 1)  # (batch, 1)
        size = do("abs", pivot)
        first = size if first is None else first
        good = size > PIVOT_FACTOR * eps(values) * first
        down = _rows(matrix_transpose(rest), column)  # (batch, 1, n)
        across = _rows(rest, row)  # (batch, 1, m)
        one = do("ones_like", pivot)
        factor = as_dtype_of(good, values) / do("where", good, pivot, one)  # (batch, 1)
        rest = rest - matrix_transpose(down) * (across * factor[:, :, None])
        others = (places[0] != row)[:, :, None] & (places[1] != column)[:, None, :]
        others = as_dtype_of(others, size)
        free = others if free is None else free * others
        rows.append(row)
        columns.append(column)
        live.append(as_dtype_of(good, size))
    return tuple(do("concatenate", parts, axis=1) for parts in (rows, columns, live))


def _masked(values: Array, live: Array) -> Array:
    """Return values (batch, r*d, r') with the rows of null pivots (batch, r) set to zero."""
    batch, n, m = values.shape
    apart = do("reshape", values, (batch, live.shape[1], -1, m))
    return do("reshape", apart * as_dtype_of(live, values)[:, :, None, None], (batch, n, m))


@lru_cache(maxsize=256)
def _chances(n: int, m: int) -> tuple[np.ndarray]:
    return (np.random.default_rng((n, m)).uniform(0.1, 1.0, (n, m)),)


def _quotient(values: Array, rows: Array, columns: Array, live: Array) -> Array:
    """Return ``C P^-1`` (batch, n, r) at the pivots; zero columns for null ones."""
    live = as_dtype_of(live, values)
    chosen = _columns(values, columns) * live[:, None, :]  # (batch, n, r)
    square = _rows(chosen, rows) * live[:, :, None]
    eye = do("eye", live.shape[1], like=values)
    square = square + (1.0 - live)[:, :, None] * eye
    return matrix_transpose(do("linalg.solve", matrix_transpose(square), matrix_transpose(chosen)))


# ---- vectors at index sets -----------------------------------------------------------------------


def _edge(cores: Cores) -> Array:
    return do("ones", (cores[0].shape[0], 1, 1), like=cores[0])


def _left_vectors(cores: Cores, rows: list[Array]) -> list[Environment]:
    """Return vectors (batch, r, chi) of x at the left index sets, of cuts 0 ... L - 1."""
    return absorb_each(
        lambda left, k: _rows(absorb_state(left, cores[k]), rows[k]),
        _edge(cores),
        range(len(cores) - 1),
    )


def _right_vectors(cores: Cores, columns: list[Array]) -> list[Environment]:
    """Return vectors (batch, chi, r) of x at the right index sets, of cuts 0 ... L."""
    rights = absorb_each(
        lambda right, k: _columns(absorb_state_right(right, cores[k]), columns[k - 1]),
        _edge(cores),
        range(len(cores) - 1, 0, -1),
    )
    return [rights[0], *rights[::-1]]  # that of cut 0 is not used


def _product(array: Array, left: Environment, right: Environment) -> Array:
    """Return entries of x: ``array``, in units of ``left``, times the right vectors."""
    scale = as_dtype_of(do("exp", left.log_scale + right.log_scale), array)
    return (array @ right.array) * scale[:, None, None]


def _rows(x: Array, index: Array) -> Array:
    """Return rows ``index`` (batch, r) of ``x`` (batch, n, m)."""
    full = (*index.shape, x.shape[2])
    return take_along(x, do("broadcast_to", index[:, :, None], full), 1)


def _columns(x: Array, index: Array) -> Array:
    """Return columns ``index`` (batch, r) of ``x`` (batch, n, m)."""
    full = (index.shape[0], x.shape[1], index.shape[1])
    return take_along(x, do("broadcast_to", index[:, None, :], full), 2)


def _first_columns(dims: tuple[int, ...], bonds: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Draw nested right index sets of cuts 1 ... L - 1: places in phys * right set."""
    rng = np.random.default_rng(seed)
    sets: list[np.ndarray] = []
    for k in range(len(dims) - 1, 0, -1):
        sets.insert(0, rng.permutation(dims[k] * bonds[k + 1])[: bonds[k]])
    return sets


def _bonds(cores: Cores, max_bond: int) -> tuple[int, ...]:
    dims = [core.shape[2] for core in cores]
    bonds = [1] * (len(dims) + 1)
    for k in range(1, len(dims)):
        bonds[k] = min(max_bond, bonds[k - 1] * dims[k - 1])
    for k in range(len(dims) - 1, 0, -1):
        bonds[k] = min(bonds[k], dims[k] * bonds[k + 1])
    return tuple(bonds)
