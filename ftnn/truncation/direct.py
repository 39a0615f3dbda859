r"""Direct compression: truncated SVDs of the exact chain (Oseledets 2011, algorithm 2).

Left to right, the triangular factor :math:`L_k` of the QR decomposition of everything left of a
cut; right to left, the singular vectors of :math:`L_k M_k`, whose singular values are those of the
whole vector at that cut. The error is within :math:`\sqrt{L-1}` of the optimum. For a product of
bonds D and chi the cost grows as :math:`(D\chi)^3`.
"""

from ..arrays.backend import Array, in_single
from ..arrays.functions import matrix_transpose
from ..arrays.svd import discarded_weight, leading, left_singular, smallest_bond
from ..chains.bonds import MaxBond, output_bonds
from ..chains.canonical import isometry
from ..chains.terms import Term
from .sum import Blocks, Sum, join, merge, split, unit_blocks
from .sweep import sweep


def compress_direct(
    terms: tuple[Term, ...], max_bond: MaxBond | None = None, rtol: float = 0.0
) -> tuple[tuple[Array, ...], Array | None]:
    """Compress a sum of terms by SVDs of its exact chain.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int or tuple of int, optional
    rtol : float
        Relative error allowed in each sample; shared equally between the L - 1 cuts.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : array (batch, L - 1)
        Relative squared weight discarded at every cut, exactly.
    """
    total = Sum.with_unit_norms(terms)
    bonds = output_bonds(terms, max_bond)
    lefts = [total.left_edge()]
    for k in range(total.L - 1):
        blocks = total.absorb_left(k, lefts[-1])  # (batch, s*out, w_t)
        # three rounds of orthogonalization resolve directions near rounding: they may stay
        y = merge(blocks, 2)
        _, r = isometry(y, noise=1.0 if in_single(y) else 1.0 / 64.0)
        (r,), _ = unit_blocks((r,))
        lefts.append(split(r, blocks))

    def basis(k: int, sites: Blocks) -> tuple[Array, Array]:
        return svd_basis(join(lefts[k], sites), bonds[k], rtol, total.L - 1)

    return sweep(total, basis)


def svd_basis(y: Array, bond: int, rtol: float, cuts: int) -> tuple[Array, Array]:
    """Return leading right singular vectors of ``y``, as rows, and the relative weight of the rest.

    Parameters
    ----------
    y : array (batch, m, n)
    bond : int
        Maximum number of vectors.
    rtol : float
        Relative error allowed for the whole chain of ``cuts`` cuts; 0 takes ``bond`` vectors.
    cuts : int

    Returns
    -------
    q : array (batch, bond, n)
        Rows that nearly span those of ``y``.
    discarded : array (batch,)
    """
    u, s = left_singular(matrix_transpose(y))
    bond = min(bond, s.shape[1])
    if rtol > 0.0:
        bond = smallest_bond(s, rtol, cuts, bond)
    return matrix_transpose(leading(u, s, bond)), discarded_weight(s)[:, bond - 1]
