"""Zip-up: local SVDs from right to left (Stoudenmire, White, New J. Phys. 12, 055026, 2010).

States and operators are brought to left-canonical form one by one, so that what is left of a cut
is nearly an isometry, and the SVD of :math:`M_k` alone chooses the basis. That is optimal for
plain re-compression; for a product it is neither optimal nor bounded by the optimum, and exact
only if ``max_bond`` is at least the joint bond of the operands.
"""

from math import sqrt

from ..arrays.backend import Array
from ..chains.bonds import MaxBond, bond_at, output_bonds
from ..chains.terms import State, Term
from .direct import compress_direct, svd_basis
from .error import estimate_weights, relative_error
from .sum import Blocks, Sum, merge
from .sweep import sweep

TRIES = 4
"""Number of times the tolerance of the local SVDs is lowered before they keep everything."""


def compress_zipup(
    terms: tuple[Term, ...], max_bond: MaxBond | None = None, rtol: float = 0.0
) -> tuple[tuple[Array, ...], None]:
    """Compress a sum of terms by local SVDs.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int or tuple of int, optional
    rtol : float
        Relative error allowed in each sample: half of its square for the local SVDs, by an
        estimate, and half for exact SVDs afterwards. Local SVDs do not bound their error: their
        tolerance is lowered until the estimate is low enough, or nothing is discarded.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : None
        The local singular values are not those of the vector.
    """
    total = Sum.with_unit_norms(terms, canonical="left")
    if rtol > 0.0:
        share = rtol / sqrt(2)
        cores = _sweep_within(terms, total, share)
        cores, _ = compress_direct((Term(State(cores)),), max_bond, share)
        return cores, None
    bonds = _local_bonds(total, max_bond)
    cores = _sweep(total, bonds, 0.0)
    if any(a > b for a, b in zip(bonds, output_bonds(terms, max_bond), strict=True)):
        # local SVDs do not see how little the sites to the left can carry; nothing is lost
        cores, _ = compress_direct((Term(State(cores)),), max_bond)
    return cores, None


def _sweep_within(terms: tuple[Term, ...], total: Sum, rtol: float) -> tuple[Array, ...]:
    """Compress by local SVDs to an estimated relative error of at most ``rtol``."""
    bonds, local = _local_bonds(total, None), rtol
    for _ in range(TRIES if total.L > 1 else 0):
        cores = _sweep(total, bonds, local)
        error = relative_error(estimate_weights(terms, cores, seed=0)).max()
        if error <= rtol:
            return cores
        local *= min(0.5, 0.5 * rtol / error)
    return _sweep(total, bonds, 0.0)


def _sweep(total: Sum, bonds: tuple[int, ...], rtol: float) -> tuple[Array, ...]:
    weights = total.left_edge()  # (batch, 1, 1)

    def basis(k: int, sites: Blocks) -> tuple[Array, None]:
        weighed = tuple(m * w for m, w in zip(sites, weights, strict=True))
        q, _ = svd_basis(merge(weighed, 1), bonds[k], rtol, total.L - 1)
        return q, None

    return sweep(total, basis)[0]


def _local_bonds(total: Sum, max_bond: MaxBond | None) -> tuple[int, ...]:
    """Return the bond left of every site: what the joint bond and the sites to the right allow."""
    bonds = [1] * (total.L + 1)
    for k in range(total.L - 1, 0, -1):
        width = sum(term.width(k) for term in total.terms)
        bonds[k] = min(width, total.dims[k] * bonds[k + 1], bond_at(max_bond, k) or width)
    return tuple(bonds)
