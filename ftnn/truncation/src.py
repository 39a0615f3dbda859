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
from ..arrays.functions import concat, invert_lower, replace_zeros, stack, stop_gradient
from ..arrays.orthonormal import lq_positive, orthonormalize
from ..arrays.random import draw_arrays
from ..arrays.scales import log_dead, unit_scale, zero_bound
from ..arrays.sketches import gaussians, test_matrices
from ..chains.bonds import MaxBond
from ..chains.terms import Term
from .sweep import Blocks, Rows, Sum, output_bonds, sketch, sweep, times

BLOCK = 8
"""Number of test vectors by which the adaptive sketch grows."""

Omegas = tuple[Array, ...]


def seeded(terms: tuple[Term, ...], bonds: tuple[int, ...], seed: int) -> Omegas:
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
    total = Sum.scaled(terms)
    bonds = output_bonds(terms, max_bond)
    # a cut needs no more rows than the largest bond from there on
    sizes = [max(bonds[k:]) for k in range(total.L)]
    rows = sketched_rows(total, omegas, sizes, keep_logs=False)

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
    total = Sum.scaled(terms)
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
        new = total.edge(BLOCK)
        for cut in range(k + 1):
            if cut:
                omega = as_like(more[cut - 1][have:], total.like)
                new = _extend(total, cut - 1, new, omega)
            rows[cut] = _append(rows[cut], new)

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


def sketched_rows(
    total: Sum, omegas: Omegas, sizes: list[int], keep_logs: bool = True
) -> list[Rows]:
    """Compute sketched left environments of every cut, with ``sizes[k]`` rows left of site k.

    The logarithms of a single term need not be kept: the rows may be scaled freely.
    """
    rows = [total.edge(sizes[0], keep_logs or len(total.terms) > 1)]
    for k in range(total.L - 1):
        rows.append(_extend(total, k, rows[-1], omegas[k][: sizes[k + 1]]))
    return rows


def _extend(total: Sum, k: int, rows: Rows, omega: Array) -> Rows:
    """Absorb site ``k`` into the rows; those that are left have norm 1, or are zero."""
    size, tops = omega.shape[0], total.peaks_at(k)
    envs = [
        term.extend_left(env[:, :size], k, omega)
        for term, env in zip(total.terms, rows.envs, strict=True)
    ]
    # squares of what is as large as a core could be too large for the dtype
    scales = [
        unit_scale(env if top is None else stop_gradient(env) / top, 2)
        for env, top in zip(envs, tops, strict=True)
    ]
    if len(envs) == 1:
        (env,), (top,), (scale,) = envs, tops, scales
        logs = None if rows.logs is None else rows.logs[:, :, :size] + do("log", scale)[None]
        return Rows((env / times(scale[:, :, None], top),), logs, None)
    assert rows.logs is not None
    scale = stack(scales, 0)  # (terms, batch, s)
    dead = log_dead(scale)
    scale = replace_zeros(scale, zero_bound(scale))  # zero rows stay as they are: see sketch
    logs = rows.logs[:, :, :size] + do("log", scale)
    wholes = (times(x, top) for x, top in zip(tuple(scale[..., None]), tops, strict=True))
    return Rows(tuple(e / whole for e, whole in zip(envs, wholes, strict=True)), logs, dead)


def _append(old: Rows | None, new: Rows) -> Rows:
    if old is None:
        return new
    assert old.logs is not None
    return Rows(
        tuple(concat(pair, 1) for pair in zip(old.envs, new.envs, strict=True)),
        concat((old.logs, new.logs), 2),
        None if new.dead is None else concat((old.dead, new.dead), 2),
    )


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
