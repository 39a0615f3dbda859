r"""Successive randomized compression (Camaño, Epperly, Tropp, arXiv:2504.06475), batched.

For a lazy chain T (a sum of terms) and test matrices :math:`\Omega_k` (s, out_k):

1. left to right, the sketched left environments: :math:`E_{k+1}` = contraction of :math:`E_k`,
   :math:`\Omega_k` and site k; row j of E uses row j of every :math:`\Omega`, a Khatri-Rao sketch;
2. right to left: :math:`M_k` = site k with the right environment :math:`R_{k+1}`,
   :math:`Y_k = E_k M_k` (s, out_k * r), core_k = :math:`Q_k = \mathrm{orth}(Y_k)`,
   :math:`R_k = M_k Q_k^\dagger`; core 0 is :math:`M_0`.

The sketch is a gauge. :math:`Y_k` is the tensor T, its left legs contracted with fixed vectors
and its right legs with the isometries found before: nothing in it knows how the bonds of T were
gauged. With fixed test matrices and a positive-diagonal QR the cores are functions of T alone.

Both sweeps run at unit scale. Each row of E is scaled to norm 1, in each term; the logarithm of
the scale weighs the terms against each other where they meet, in Y, whose rows may be scaled
freely (Q does not see it).
"""

from autoray import do

from ..arrays.backend import Array, as_dtype_of, as_like, tiny, to_numpy
from ..arrays.functions import invert_lower, stop_gradient
from ..arrays.orthonormal import lq_positive, orthonormalize
from ..arrays.random import draw_arrays
from ..arrays.sketches import gaussians, test_matrices
from ..chains.bonds import MaxBond, output_bonds
from ..chains.terms import Term
from .sketch import Omegas, Rows, append_rows, edge_rows, extend_rows, sketch, sketch_rows
from .sum import Blocks, Sum
from .sweep import sweep

BLOCK = 8
"""Number of test vectors by which the adaptive sketch grows."""


def draw_sketch(terms: tuple[Term, ...], bonds: tuple[int, ...], seed: int) -> Omegas:
    """Draw the test matrices for these bonds, on the backend of the terms."""
    dims = terms[0].phys_dims
    return draw_arrays(gaussians, max(bonds), seed, *dims, like=terms[0].like)


def compress_src(
    terms: tuple[Term, ...], omegas: Omegas, max_bond: MaxBond | None
) -> tuple[Array, ...]:
    """Compress a sum of terms to bond dimensions ``max_bond``; shapes are static.

    Parameters
    ----------
    terms : tuple of Term
        Same sites and physical dimensions; batch sizes equal or 1.
    omegas : tuple of array (size, out_k)
        Test matrices of sites 0 ... L - 2, on the backend of the terms, as large as the largest
        bond.
    max_bond : int or tuple of int, optional

    Returns
    -------
    tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core; directions beyond the
        rank of a sample are zero.
    """
    total = Sum.with_unit_peaks(terms)
    bonds = output_bonds(terms, max_bond)
    # a cut needs no more rows than the largest bond from there on
    sizes = [max(bonds[k:]) for k in range(total.L)]
    rows = sketch_rows(total, omegas, sizes, keep_logs=False)

    def basis(k: int, sites: Blocks) -> tuple[Array, None]:
        y, magnitude, _ = sketch(rows[k], sites, bonds[k])
        return orthonormalize(y, magnitude), None

    return sweep(total, basis)[0]


def compress_src_adaptive(
    terms: tuple[Term, ...], max_bond: MaxBond | None, rtol: float, seed: int
) -> tuple[Array, ...]:
    r"""Compress a sum of terms to the smallest bonds whose estimated error is below ``rtol``.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int or tuple of int, optional
    rtol : float
        Relative error allowed in each sample; shared equally between the L - 1 cuts.
    seed : int
        Of the test matrices.

    Returns
    -------
    tuple of array (batch, left, out, right)
        As in :func:`compress_src`; bonds are common to the batch.

    Notes
    -----
    The sketch grows by blocks of rows; rows that were made stay. At each cut the error of s
    rows is estimated by leaving out one at a time (Epperly, Tropp, SIAM J. Sci. Comput. 46,
    A508, 2024): with :math:`Y = LQ`, the part of row j outside the span of the others has norm
    :math:`1/\|(L^{-1})_{:,j}\|`. As :math:`L^{-1}` is triangular, one of them gives the estimates
    for all smaller numbers of rows, too.
    """
    total = Sum.with_unit_peaks(terms)
    bonds = output_bonds(terms, max_bond)
    cuts = total.L - 1
    rows: list[Rows | None] = [None] * total.L

    def count(k: int) -> int:
        """Return the number of rows of cut k."""
        have = rows[k]
        return have.envs[0].shape[1] if have else 0

    def grow(k: int) -> None:
        """Add a block of rows to the environments of cuts 0 ... k."""
        have = count(0)
        more = test_matrices(total.dims, have + BLOCK, seed)
        new = edge_rows(total, BLOCK)
        for cut in range(k + 1):
            if cut:
                omega = as_like(more[cut - 1][have:], total.like)
                new = extend_rows(total, cut - 1, new, omega)
            rows[cut] = append_rows(rows[cut], new)

    def basis(k: int, sites: Blocks) -> tuple[Array, None]:
        while True:
            size = min(count(k), bonds[k])
            if size:
                have = rows[k]
                assert have is not None
                y, magnitude, log = sketch(have, sites, size)
                errors = _estimates(y, magnitude, log)  # (size,), worst of the batch
                good = [j + 1 for j, d in enumerate(errors) if d <= rtol**2 / max(cuts, 1)]
                if good or size == bonds[k]:
                    bond = good[0] if good else size
                    return orthonormalize(y[:, :bond], magnitude), None
            grow(k)

    return sweep(total, basis)[0]


def _estimates(y: Array, magnitude: Array, log: Array) -> list[float]:
    """Estimate the relative squared error of the first 1, 2, ... rows, worst of the batch."""
    _, low, null, scale = lq_positive(stop_gradient(y), magnitude)
    live = as_dtype_of(do("logical_not", null), scale)
    eye = do("eye", low.shape[-1], like=low)
    low = low * live[:, :, None] * live[:, None, :] + (1.0 - live)[:, None, :] * eye
    inverse = do("abs", invert_lower(low)) ** 2  # (batch, row, column j)
    outside = 1.0 / (do("cumsum", inverse, 1) + tiny(scale))  # of row j, from the first rows
    outside = outside * do("tril", do("ones_like", outside))
    log = log + do("log", scale)
    weight = do("exp", 2.0 * (log - do("max", log, axis=1, keepdims=True)))  # (batch, row j)
    errors = do("sum", weight[:, None, :] * outside, axis=2)
    errors = errors / do("cumsum", weight, 1)  # (batch, rows)
    # once a row is null the ones before it span everything
    spanned = do("cumsum", 1.0 - live, 1) > 0
    errors = do("where", spanned, do("zeros_like", errors), errors)
    return to_numpy(do("max", errors, axis=0)).tolist()
