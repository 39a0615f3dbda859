"""Zip-up: local SVDs from right to left (Stoudenmire, White, New J. Phys. 12, 055026, 2010).

States and operators are brought to left-canonical form one by one, so that what is left of a cut
is nearly an isometry, and the SVD of :math:`M_k` alone chooses the basis. That is optimal for
plain re-compression; for a product it is neither optimal nor bounded by the optimum, and exact
only if ``max_bond`` is as large as the joint bond of the operands.
"""

from ..arrays.backend import Array
from ..chains.bonds import MaxBond, bond_at
from ..chains.terms import State, Term
from .direct import compress_direct, svd_basis
from .sweep import Blocks, Sum, merge, output_bonds, sweep


def compress_zipup(
    terms: tuple[Term, ...], max_bond: MaxBond | None = None, rtol: float = 0.0
) -> tuple[tuple[Array, ...], None]:
    """Compress a sum of terms by local SVDs.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int or tuple of int, optional
    rtol : float
        Relative weight allowed to be lost, as the local SVDs see it; shared equally between the
        L - 1 cuts.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : None
        The local singular values are not those of the vector.
    """
    total = Sum.prepared(terms, canonical="left")
    bonds = _local_bonds(total, max_bond)
    weights = total.left_edge()  # (batch, 1, 1)

    def basis(k: int, sites: Blocks) -> tuple[Array, None]:
        weighed = tuple(m * w for m, w in zip(sites, weights, strict=True))
        q, _ = svd_basis(merge(weighed, 1), bonds[k], rtol, total.L - 1)
        return q, None

    cores, _ = sweep(total, basis)
    if any(a > b for a, b in zip(bonds, output_bonds(terms, max_bond), strict=True)):
        # local SVDs do not see how little the sites to the left can carry; nothing is lost
        cores, _ = compress_direct((Term(State(cores)),), max_bond)
    return cores, None


def _local_bonds(total: Sum, max_bond: MaxBond | None) -> tuple[int, ...]:
    """Bond left of every site: what the joint bond and the sites to the right allow."""
    bonds = [1] * (total.L + 1)
    for k in range(total.L - 1, 0, -1):
        width = sum(term.width(k) for term in total.terms)
        bonds[k] = min(width, total.dims[k] * bonds[k + 1], bond_at(max_bond, k) or width)
    return tuple(bonds)
