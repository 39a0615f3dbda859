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
from ..arrays.functions import at_least, concat, invert_lower, stop_gradient
from ..arrays.orthonormal import lq_positive, orthonormalize
from ..arrays.random import draw_arrays
from ..arrays.scales import is_zero, unit_scale
from ..arrays.sketches import gaussians, test_matrices
from ..chains.bonds import MaxBond
from ..chains.terms import Term
from .sweep import Blocks, Rows, Sum, output_bonds, sketch, sweep

BLOCK = 8
"""Test vectors by which the adaptive sketch grows."""

Omegas = tuple[Array, ...]


def seeded(terms: tuple[Term, ...], bonds: tuple[int, ...], seed: int) -> Omegas:
    """Test matrices for these bonds, on the backend of the terms."""
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
    total = Sum.scaled(terms)
    bonds = output_bonds(terms, max_bond)
    # a cut needs no more rows than the largest bond from there on
    rows = sketched_rows(total, omegas, [max(bonds[k:]) for k in range(total.L)])

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
        As of :func:`compress_src`; bonds are common to the batch.

    Notes
    -----
    The sketch grows by blocks of rows; rows that were made stay. At each cut the error of s
    rows is estimated by leaving out one at a time (Epperly, Tropp, SIAM J. Sci. Comput. 46,
    A508, 2024): with :math:`Y = LQ`, the part of row j outside the span of the others has norm
    :math:`1/\|(L^{-1})_{:,j}\|`. As :math:`L^{-1}` is triangular, one of them gives the estimates
    for all smaller numbers of rows, too.
    """
    total = Sum.scaled(terms)
    bonds = output_bonds(terms, max_bond)
    cuts = total.L - 1
    rows: list[Rows] = [()] * total.L

    def grow(k: int) -> None:
        """Add a block of rows to the environments of cuts 0 ... k."""
        have = rows[0][0][0].shape[1] if rows[0] else 0
        more = test_matrices(total.dims, have + BLOCK, seed)
        new = _edge(total, BLOCK)
        for cut in range(k + 1):
            if cut:
                omega = as_like(more[cut - 1][have:], total.like)
                new = _extended(total, cut - 1, new, omega)
            rows[cut] = _appended(rows[cut], new)

    def basis(k: int, sites: Blocks) -> tuple[Array, None]:
        while True:
            have = rows[k][0][0].shape[1] if rows[k] else 0
            size = min(have, bonds[k])
            if size:
                y, magnitude, peak = sketch(rows[k], sites, size)
                found = _estimates(y, magnitude, peak)  # (size,), worst of the batch
                good = [j + 1 for j, d in enumerate(found) if d <= rtol**2 / max(cuts, 1)]
                if good or size == bonds[k]:
                    bond = good[0] if good else size
                    return orthonormalize(y[:, :bond], magnitude), None
            grow(k)

    return sweep(total, basis)[0]


def sketched_rows(total: Sum, omegas: Omegas, sizes: list[int]) -> list[Rows]:
    """Sketched left environments of every cut; that left of site k has ``sizes[k]`` rows."""
    rows = [_edge(total, sizes[0])]
    for k in range(total.L - 1):
        rows.append(_extended(total, k, rows[-1], omegas[k][: sizes[k + 1]]))
    return rows


def _edge(total: Sum, size: int) -> Rows:
    ones = do("ones", (1, size, 1), like=total.like)
    none = do("zeros_like", do("abs", ones[:, :, 0]))
    return tuple(
        (sign * ones, log[:, None] + none)
        for sign, log in zip(total.signs(), total.logs, strict=True)
    )


def _extended(total: Sum, k: int, rows: Rows, omega: Array) -> Rows:
    size = omega.shape[0]
    new = []
    for term, top, (env, log) in zip(total.terms, total.peaks_at(k), rows, strict=True):
        env = term.extend_left(env[:, :size], k, omega)
        top = 1.0 if top is None else top[:, None]
        small = stop_gradient(env) / (top if isinstance(top, float) else top[:, :, None])
        scale = unit_scale(small, 2)  # (batch, s)
        if len(total.terms) > 1:  # zero rows stay as they are: see sketch
            scale = do("where", is_zero(scale), do("ones_like", scale), scale)
        more = do("log", scale)
        whole = at_least(scale * top, tiny(scale))  # no zero row is divided by zero
        new.append((env / whole[:, :, None], log[:, :size] + more))
    return tuple(new)


def _appended(old: Rows, new: Rows) -> Rows:
    if not old:
        return new
    return tuple(
        (concat((e, f), 1), concat((a, b), 1)) for (e, a), (f, b) in zip(old, new, strict=True)
    )


def _estimates(y: Array, magnitude: Array, peak: Array) -> list[float]:
    """Estimated relative squared error of the first 1, 2, ... rows, worst of the batch."""
    _, low, null, scale = lq_positive(stop_gradient(y), magnitude)
    live = as_dtype_of(do("logical_not", null), scale)
    eye = do("eye", low.shape[-1], like=low)
    low = low * live[:, :, None] * live[:, None, :] + (1.0 - live)[:, None, :] * eye
    inverse = do("abs", invert_lower(low)) ** 2  # (batch, row, column j)
    outside = 1.0 / (do("cumsum", inverse, 1) + tiny(scale))  # of row j, from the first rows
    outside = outside * do("tril", do("ones_like", outside))
    log = peak + do("log", scale)
    weight = do("exp", 2.0 * (log - do("max", log, axis=1, keepdims=True)))  # (batch, row j)
    found = do("sum", weight[:, None, :] * outside, axis=2)
    found = found / do("cumsum", weight, 1)  # (batch, rows)
    # once a row is null the ones before it span everything
    spanned = do("cumsum", 1.0 - live, 1) > 0
    found = do("where", spanned, do("zeros_like", found), found)
    return to_numpy(do("max", found, axis=0)).tolist()
