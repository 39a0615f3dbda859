r"""Batched cross interpolation of the elementwise product of two chains.

A sketch of :math:`T = x \circ y` needs environments with both bonds, :math:`m^2` entries a row, and
takes :math:`\chi m^3` operations a site. A *slice* of T, its left indices fixed at I, is a product
of slices of the factors,

.. math:: T[I, \sigma, J] = x[I, \sigma, J] \circ y[I, \sigma, J],

so that left and right environments are separate vectors of x and of y, m entries each: to evaluate
:math:`\chi d \chi` entries takes :math:`2 d \chi m (m + \chi)` operations, and the whole
:math:`\chi^3` time and :math:`\chi^2` memory (Michailidis, Fenton, Kiffner, arXiv:2410.19747).

With nested index sets :math:`I_{k+1} \subset I_k \times \sigma_k` and
:math:`J_k \subset \sigma_k \times J_{k+1}`, and :math:`C_k = T[I_k, \sigma_k, J_{k+1}]` as a matrix
of :math:`r_k d_k` rows, the cores of the result are

.. math:: C_k\, C_k[I_{k+1}]^{-1} = Q_k\, Q_k[I_{k+1}]^{-1}, \qquad C_k = Q_k R_k,

and :math:`C_{L-1}` at the last site (Oseledets, Tyrtyshnikov, Linear Algebra Appl. 432, 70, 2010).
With Q in place of C nothing is divided by small singular values of C, and null directions are
zeros. The rows are the pivots of a Gaussian elimination of Q, which keeps the cores small.

Entries at random places say nothing of a vector that is zero at most. The first right index sets
are therefore pivots against random *vectors*: row j of a Khatri-Rao sketch of x times row j of
another of y, a test of the rows of :math:`x \otimes y`, which is separate as well.

All cores but the last are ratios of entries, without a scale: that of the vector is carried by its
logarithm.
"""

from typing import NamedTuple

import numpy as np
from autoray import do

from ..arrays.backend import Array, as_dtype_of, as_index
from ..arrays.functions import (
    at_least,
    largest,
    matrix_transpose,
    permute,
    pivot_rows,
    stop_gradient,
    take_along,
)
from ..arrays.orthonormal import orthonormalize
from ..arrays.scales import spread, unit_scale
from ..chains.absorption import absorb_state, extend_state
from ..chains.magnitude import divide_state
from ..chains.overlap import Environment, rescale
from ..chains.terms import Cores

SWEEPS = 1
"""Number of times that the index sets are chosen anew, right and left; a second one gains nothing
(docs/performance.md)."""

Pair = tuple[Environment, Environment]
"""Environments of the gate and of the value: left (batch, r, m), right (batch, m, r)."""


def interpolate_product(
    gate: Cores,
    value: Cores,
    omegas: tuple[Array, ...],
    bonds: tuple[int, ...],
    offset: bool = False,
    sweeps: int = SWEEPS,
) -> Cores:
    """Interpolate ``gate * value``, or ``(1 + gate) * value``, entry by entry.

    Parameters
    ----------
    gate, value : tuple of array (batch, left, phys, right)
        Same batch and physical dimensions.
    omegas : tuple of array (size, phys)
        Test matrices of sites 0 ... L - 2, with as many rows as the largest bond.
    bonds : tuple of int
        Bond left of every site and right of the last, L + 1 of them; they are cut to what index
        sets of these dimensions hold.
    offset : bool
        Whether to add one to the gate.
    sweeps : int

    Returns
    -------
    tuple of array (batch, left, phys, right)
        Shapes are static; directions beyond the rank of a sample are zero. Gradients hold the index
        sets fixed.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> grid = np.arange(2**10) / 2**10
    >>> waves = np.stack([np.sin(6 * grid), np.cos(9 * grid)])
    >>> x = ftnn.MPS.from_dense(waves, (2,) * 10, rtol=1e-14)
    >>> omegas = ftnn.arrays.sketches.test_matrices(x.phys_dims, size=4, seed=0)
    >>> square = ftnn.MPS(interpolate_product(x.cores, x.cores, omegas, (1, *[4] * 9, 1)))
    >>> bool(np.allclose(square.to_dense(), waves**2)), square.bond_dims
    (True, (2, 4, 4, 4, 4, 4, 4, 4, 2))
    """
    cores, logs = [], []
    for chain in (gate, value):
        unit, log_scale, _ = divide_state(chain)
        cores.append(unit)
        logs.append(log_scale)
    product = _Product(cores[0], cores[1], logs[0], logs[1], offset)
    fixed = product.fixed()
    back = fixed.reversed()
    bonds = _reachable(bonds, [core.shape[2] for core in value])
    right = _sweep(back, _sketched(fixed, omegas, bonds))
    for _ in range(sweeps):
        left = _sweep(fixed, _across(right.lefts))
        right = _sweep(back, _across(left.lefts))
    # the same vectors at the same places, with gradients
    found = _sweep(product, _across(_at(product.reversed(), right.bases)))
    values = [*map(_quotient, found.bases), found.last]  # (batch, r*d, r')
    shaped = (
        do("reshape", array, (array.shape[0], -1, core.shape[2], array.shape[2]))
        for array, core in zip(values, value, strict=True)
    )
    return spread(list(shaped), found.log_scale)


class _Product(NamedTuple):
    """The two factors, their cores of largest modulus one, and what those were divided by."""

    gate: Cores
    value: Cores
    log_gate: Array
    log_value: Array
    offset: bool

    @property
    def L(self) -> int:
        return len(self.value)

    @property
    def batch(self) -> int:
        return self.value[0].shape[0]

    def edge(self) -> Pair:
        """Return the left environments of site 0."""
        none = do("zeros_like", self.log_value)
        ones = do("ones", (self.batch, 1, 1), like=self.value[0])
        return Environment(ones, none), Environment(ones, none)

    def fixed(self) -> "_Product":
        """Return the same as constants of differentiation."""
        gate, value = (tuple(stop_gradient(c) for c in cores) for cores in (self.gate, self.value))
        return self._replace(gate=gate, value=value)

    def reversed(self) -> "_Product":
        """Return the product with its last site first."""
        gate, value = (
            tuple(permute(core, 0, 3, 2, 1) for core in reversed(cores))
            for cores in (self.gate, self.value)
        )
        return self._replace(gate=gate, value=value)

    def fibers(self, k: int, lefts: Pair) -> tuple[Array, Array]:
        """Absorb site ``k`` of both factors into left vectors: (batch, r*d, m) of each."""
        return absorb_state(lefts[0].array, self.gate[k]), absorb_state(
            lefts[1].array, self.value[k]
        )

    def entries(
        self, fibers: tuple[Array, Array], lefts: Pair, rights: Pair
    ) -> tuple[Array, Array]:
        """Return entries (batch, r*d, r') of the product and the logarithm (batch,) of their unit.

        With g and v of unit size, ``1 + e^a g`` is computed as ``e^t (e^-t + e^(a-t) g)``,
        t the larger one of 0 and a: no factor is too large.
        """
        gate, value = (f @ right.array for f, right in zip(fibers, rights, strict=True))
        log_gate = lefts[0].log_scale + rights[0].log_scale + self.log_gate
        log_value = lefts[1].log_scale + rights[1].log_scale + self.log_value
        if not self.offset:
            return gate * value, log_gate + log_value
        top = at_least(log_gate, 0.0)
        one, size = (
            as_dtype_of(do("exp", log), gate)[:, None, None] for log in (-top, log_gate - top)
        )
        return (one + size * gate) * value, top + log_value


# ---- sweeps --------------------------------------------------------------------------------------


class _Basis(NamedTuple):
    """Q (batch, r*d, r'), its pivot rows (batch, r'), and 1 or 0 (batch, r') for null columns."""

    q: Array
    rows: Array
    live: Array


class _Swept(NamedTuple):
    """What a sweep finds.

    Attributes
    ----------
    bases : list of _Basis
        Of sites 0 ... L - 2.
    lefts : list of Pair
        Vectors at the index sets left of every site.
    last : array (batch, r*d, 1)
        Entries at the last site.
    log_scale : array (batch,)
        Logarithm of their unit.
    """

    bases: list[_Basis]
    lefts: list[Pair]
    last: Array
    log_scale: Array


def _sweep(product: _Product, rights: list[Pair]) -> _Swept:
    """Choose left index sets against right vectors, site after site."""
    lefts = [product.edge()]
    bases: list[_Basis] = []
    for k in range(product.L):
        fibers = product.fibers(k, lefts[k])
        values, log_scale = product.entries(fibers, lefts[k], rights[k])
        if k:
            values = _masked(values, bases[-1].live)
        if k < product.L - 1:
            bases.append(_basis(values))
            lefts.append(_chosen(fibers, lefts[k], bases[k].rows))
    return _Swept(bases, lefts, values, log_scale)


def _chosen(fibers: tuple[Array, Array], lefts: Pair, rows: Array) -> Pair:
    """Keep the rows of an index set of fibers: the vectors (batch, r, m) left of the next site."""
    gate, value = (
        rescale(_rows(fiber, rows), left.log_scale)
        for fiber, left in zip(fibers, lefts, strict=True)
    )
    return gate, value


def _basis(values: Array) -> _Basis:
    """Orthonormalize fibers (batch, r*d, r'), null ones last, and choose pivot rows."""
    y = matrix_transpose(values)
    # all entries of a matrix carry the rounding of its largest fibers
    q = orthonormalize(y, largest(unit_scale(y, 2), 1))  # (batch, r', r*d)
    size = largest(do("abs", stop_gradient(q)), 2)[:, :, 0]
    live = as_dtype_of(size > 0, size)  # (batch, r')
    count = live.shape[1]
    places = as_dtype_of(as_index(np.arange(count), values), live)
    order = do("argsort", places - count * live, 1)  # a null fiber must not take a row of others
    q = matrix_transpose(_rows(q, order))  # (batch, r*d, r')
    return _Basis(q, pivot_rows(stop_gradient(q)), take_along(live, order, 1))


def _quotient(basis: _Basis) -> Array:
    """Return ``Q Q[I]^-1`` (batch, r*d, r'); zero columns for null ones."""
    live = as_dtype_of(basis.live, basis.q)
    eye = do("eye", live.shape[1], like=basis.q)
    square = _rows(basis.q, basis.rows) * live[:, :, None] + (1.0 - live)[:, :, None] * eye
    solved = do("linalg.solve", matrix_transpose(square), matrix_transpose(basis.q))
    return matrix_transpose(solved)


def _masked(values: Array, live: Array) -> Array:
    """Return values (batch, r*d, r') with the slices of null pivots (batch, r) set to zero."""
    batch, n, m = values.shape
    apart = do("reshape", values, (batch, live.shape[1], -1, m))
    return do("reshape", apart * as_dtype_of(live, values)[:, :, None, None], (batch, n, m))


# ---- right vectors -------------------------------------------------------------------------------


def _across(lefts: list[Pair]) -> list[Pair]:
    """Return the vectors right of every site from those left of the sites of the reversed chain."""
    return [(_transposed(gate), _transposed(value)) for gate, value in lefts[::-1]]


def _at(product: _Product, bases: list[_Basis]) -> list[Pair]:
    """Return the left vectors at index sets that are known."""
    lefts = [product.edge()]
    for k, basis in enumerate(bases):
        lefts.append(_chosen(product.fibers(k, lefts[k]), lefts[k], basis.rows))
    return lefts


def _sketched(product: _Product, omegas: tuple[Array, ...], bonds: tuple[int, ...]) -> list[Pair]:
    """Return random vectors right of every site of the reversed product, of norm one.

    They are those left of a site. The two factors take the rows of the test matrices in opposite
    order: row j of one is not that of the other.
    """
    size, none = max(bonds), do("zeros_like", product.log_value)
    envs: list[list[Array]] = []
    for cores, flipped in ((product.gate, True), (product.value, False)):
        env = do("ones", (product.batch, size, 1), like=cores[0])
        envs.append([env])
        for core, omega in zip(cores[:-1], omegas, strict=True):
            rows = do("flip", omega[:size], (0,)) if flipped else omega[:size]
            env = extend_state(env, core, rows)  # (batch, s, m)
            env = env / unit_scale(env, 2)[:, :, None]
            envs[-1].append(env)
    pairs = [
        tuple(_transposed(Environment(env[:, : bonds[k]], none)) for env in both)
        for k, both in enumerate(zip(*envs, strict=True))
    ]
    return pairs[::-1]  # type: ignore[return-value]


def _transposed(env: Environment) -> Environment:
    return env._replace(array=matrix_transpose(env.array))


def _rows(x: Array, index: Array) -> Array:
    """Return rows ``index`` (batch, r) of ``x`` (batch, n, m)."""
    full = (*index.shape, x.shape[2])
    return take_along(x, do("broadcast_to", index[:, :, None], full), 1)


def _reachable(bonds: tuple[int, ...], dims: list[int]) -> tuple[int, ...]:
    """Cut bonds to what nested index sets allow, from either side.

    Examples
    --------
    >>> _reachable((1, 2, 9, 1), [2, 2, 3])
    (1, 2, 3, 1)
    """
    new = list(bonds)
    for k, dim in enumerate(dims[:-1]):
        new[k + 1] = min(new[k + 1], new[k] * dim)
    for k in range(len(dims) - 1, 0, -1):
        new[k] = min(new[k], dims[k] * new[k + 1])
    return tuple(new)
