"""Successive deterministic compression (arXiv:2601.19650): SRC with a computed sketch.

Left to right, the left environment is truncated by an SVD from site to site: it keeps its leading
right singular vectors, times their singular values, in place of random test vectors. States and
operators are brought to right-canonical form first, so that what is right of a cut, which those
SVDs do not see, is nearly an isometry. For a product that is not enough to bound the error by the
optimum; it is exact if ``max_bond`` is as large as the joint bond of the operands.
"""

from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import matrix_transpose
from ..arrays.orthonormal import orthonormalize
from ..chains.bonds import MaxBond, bond_at, output_bonds
from ..chains.terms import Term
from .direct import svd_basis
from .sum import Blocks, Sum, join, merge, split, unit_blocks
from .sweep import sweep


def compress_sdc(
    terms: tuple[Term, ...], max_bond: MaxBond | None = None, rtol: float = 0.0
) -> tuple[tuple[Array, ...], None]:
    """Compress a sum of terms by a deterministic sketch.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int or tuple of int, optional
    rtol : float
        Relative error allowed in each sample, as measured by the sketch: a quarter of its square
        for the left environments, the rest for the bonds.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : None
        The discarded weight is not known to the sketch.
    """
    total = Sum.with_unit_norms(terms, canonical="right")
    bonds, cuts = output_bonds(terms, max_bond), total.L - 1
    widths = [sum(term.width(k) for term in total.terms) for k in range(1, cuts + 1)]
    # a cut keeps as many rows as the largest bond from there on
    limits = [bond_at(max_bond, k) or max(widths) for k in range(1, cuts + 1)]
    lefts = [total.left_edge()]
    for k in range(cuts):
        blocks = total.absorb_left(k, lefts[-1])  # (batch, s*out, w_t)
        (joint,), _ = unit_blocks((merge(blocks, 2),))
        q, _ = svd_basis(
            matrix_transpose(joint), max(limits[k:]), 0.5 * rtol, cuts
        )  # (batch, s', s*out)
        lefts.append(split(do("conj", q) @ joint, blocks))

    def basis(k: int, sites: Blocks) -> tuple[Array, None]:
        sketch = join(lefts[k], sites)  # (batch, s, out*r)
        if rtol > 0.0:
            return svd_basis(sketch, bonds[k], 0.75**0.5 * rtol, cuts)[0], None
        if sketch.shape[1] > bonds[k]:
            return svd_basis(sketch, bonds[k], 0.0, cuts)[0], None
        return orthonormalize(sketch), None

    cores, _ = sweep(total, basis)
    return cores, None
