"""SRC with oversampling: 1.5 times as many test vectors, then truncation by SVD.

The larger sketch contains the leading singular vectors almost exactly, and the exact chain is not
needed to truncate it: the error is the optimum of direct compression at a fraction of its cost
(arXiv:2504.06475, section 3.5).
"""

from math import ceil, sqrt

from ..arrays.backend import Array
from ..chains.bonds import MaxBond, output_bonds
from ..chains.terms import State, Term
from .direct import compress_direct
from .src import compress_src, compress_src_adaptive, draw_sketch


def oversample(max_bond: MaxBond | None) -> MaxBond | None:
    """Return the number of test vectors for a bond: half as many more, at least four more."""
    if max_bond is None:
        return None
    if isinstance(max_bond, int):
        return max_bond + max(4, ceil(max_bond / 2))
    return tuple(bond + max(4, ceil(bond / 2)) for bond in max_bond)


def compress_src_oversample(
    terms: tuple[Term, ...], max_bond: MaxBond | None = None, rtol: float = 0.0, seed: int = 0
) -> tuple[tuple[Array, ...], None]:
    """Compress a sum of terms by a larger sketch and SVDs.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int or tuple of int, optional
    rtol : float
        Relative error allowed in each sample: half of its square for the sketch, by its
        estimate, and half for the SVDs, exactly.
    seed : int
        Seed of the test matrices.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : None
        The weight that the sketch discards is not known.
    """
    more = oversample(max_bond)
    if rtol > 0.0:
        cores = compress_src_adaptive(terms, more, rtol / sqrt(2), seed)
    else:
        cores = compress_src(terms, draw_sketch(terms, output_bonds(terms, more), seed), more)
    cores, _ = compress_direct((Term(State(cores)),), max_bond, rtol / sqrt(2))
    return cores, None
