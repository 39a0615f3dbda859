"""SRC with oversampling: half as many test vectors again, then truncation by SVD.

The larger sketch contains the leading singular vectors all but exactly, and the exact chain is
not needed to truncate it: the error is the optimum of direct compression at a fraction of its cost
(arXiv:2504.06475, section 3.5).
"""

from math import ceil, sqrt

from ..backend import Array
from ..chain import State, Term
from .direct import compress_direct
from .src import compress_src, compress_src_adaptive, seeded
from .sweep import output_bonds


def oversampled(bond: int) -> int:
    """Return the number of test vectors for a bond: half as many again, and four at least."""
    return bond + max(4, ceil(bond / 2))


def compress_src_oversample(
    terms: tuple[Term, ...], max_bond: int | None = None, rtol: float = 0.0, seed: int = 0
) -> tuple[tuple[Array, ...], None]:
    """Compress a sum of terms by a larger sketch and SVDs.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int, optional
    rtol : float
        Relative error allowed in each sample: half of its square for the sketch, by its
        estimate, and half for the SVDs, exactly.
    seed : int
        Of the test matrices.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : None
        The weight that the sketch discards is not known.
    """
    if rtol > 0.0:
        more = None if max_bond is None else oversampled(max_bond)
        cores = compress_src_adaptive(terms, more, rtol / sqrt(2), seed)
    else:
        bonds = output_bonds(terms, None if max_bond is None else oversampled(max_bond))
        cores = compress_src(terms, seeded(terms, bonds, seed), max(bonds))
    cores, _ = compress_direct((Term(State(cores)),), max_bond, rtol / sqrt(2))
    return cores, None
