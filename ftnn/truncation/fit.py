"""Variational fit: alternating least squares, one site at a time (Verstraete, Cirac 2004).

With all cores but one held fixed and the chain canonical around that one, the best choice for it
is the exact chain contracted with the others. A sweep to the right and one back to the left set
every core in turn; the error never grows. It starts from successive randomized compression.
"""

from autoray import do

from ..arrays.backend import Array
from ..arrays.functions import matrix_transpose
from ..arrays.orthonormal import orthonormalize
from ..arrays.scales import peak, safe_norm
from ..chains.bonds import MaxBond, output_bonds
from ..chains.terms import Term
from .oversample import compress_src_oversample
from .src import compress_src, draw_sketch
from .sum import Blocks, Sum, join, project, unit_blocks
from .sweep import sweep

SWEEPS = 4
"""Number of sweeps in both directions. On the SRC paper's synthetic problem the first brings the
error of SRC to within a few per cent of the optimum; see docs/methods.md."""


def compress_fit(
    terms: tuple[Term, ...], max_bond: MaxBond | None = None, rtol: float = 0.0, seed: int = 0
) -> tuple[tuple[Array, ...], None]:
    """Compress a sum of terms by alternating least squares.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int or tuple of int, optional
    rtol : float
        Relative error allowed in each sample; SRC with oversampling chooses the bonds by it.
    seed : int
        Seed of the initial test matrices.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : None
        The norm of the exact chain is not known.
    """
    if rtol > 0.0:
        cores, _ = compress_src_oversample(terms, max_bond, rtol, seed)
    else:
        bonds = output_bonds(terms, max_bond)
        cores = compress_src(terms, draw_sketch(terms, bonds, seed), max_bond)
    total = Sum.with_unit_norms(terms)
    for _ in range(SWEEPS if total.L > 1 else 0):
        cores = _to_the_left(total, _to_the_right(total, cores))
    return cores, None


def _to_the_right(total: Sum, cores: tuple[Array, ...]) -> list[Blocks]:
    """Optimize the cores from the left; return left environments ``<C|T>`` of every cut."""
    rights: list[Blocks] = [total.right_edge()] * (total.L + 1)
    for k in range(total.L - 1, 0, -1):
        sites = total.absorb_right(k, rights[k + 1])
        rights[k], _ = unit_blocks(project(sites, rows(cores[k])))
    lefts = [total.left_edge()]
    for k in range(total.L - 1):
        blocks = total.absorb_left(k, lefts[-1])  # (batch, s*out, w_t)
        best = matrix_transpose(join(blocks, rights[k + 1]))  # (batch, right, s*out)
        conjugate = do("conj", orthonormalize(best))
        left, _ = unit_blocks(tuple(conjugate @ block for block in blocks))
        lefts.append(left)
    return lefts


def _to_the_left(total: Sum, lefts: list[Blocks]) -> tuple[Array, ...]:
    def basis(k: int, sites: Blocks) -> tuple[Array, None]:
        return orthonormalize(join(lefts[k], sites)), None

    return sweep(total, basis)[0]


def rows(core: Array) -> Array:
    """Return the orthonormal rows Q (batch, left, out * right) behind a right-canonical core.

    The rows of a core, all scaled alike, get norm 1 again; zero rows stay zero.
    """
    q = do("reshape", core, (*core.shape[:2], -1)) / peak(core)[:, 0]
    size = safe_norm(q, (2,))[:, :, None]
    return q / do("where", size > 0, size, do("ones_like", size))
