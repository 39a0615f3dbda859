r"""Successive randomized compression (Camaño, Epperly, Tropp, arXiv:2504.06475), batched.

For a lazy chain T (a sum of terms) and test matrices :math:`\Omega_k` (s, out_k):

1. left to right, the sketched left environments: :math:`E_{k+1}` = contraction of :math:`E_k`,
   :math:`\Omega_k` and site k; row j of E uses row j of every :math:`\Omega`, a Khatri-Rao sketch;
2. right to left: :math:`M_k` = site k with the right environment :math:`R_{k+1}`,
   :math:`Y_k = E_k M_k` (out_k * r, s), :math:`Q_k = \mathrm{orth}(Y_k)`,
   core_k = :math:`Q_k^T`, :math:`R_k = M_k \bar Q_k`; core 0 is :math:`M_0`.

Every step replaces T by its orthogonal projection onto span(Q_k), so the squared errors of the
steps add up: :math:`\|T - C\|^2 = \|T\|^2 - \|C\|^2`.

The sketch is a gauge. :math:`Y_k` is the tensor T, its left legs contracted with fixed vectors
and its right legs with the isometries found before: nothing in it knows how the bonds of T were
gauged. With fixed test matrices and a positive-diagonal QR the cores are functions of T alone.

Both sweeps run at unit scale. Each row of E is scaled to norm 1, in each term; the logarithm of
the scale weighs the terms against each other where they meet, in Y, whose columns may be scaled
freely (Q does not see it). R is scaled per sample so that the
largest term has norm 1; the logarithm of that is kept and
the total is spread evenly over the output cores.
"""

from math import prod

from autoray import do

from ..backend import Array, is_complex, permute
from ..chain import Term
from ..linalg import orthonormalize, safe_norm, spread, unit_scale


def output_bonds(terms: tuple[Term, ...], max_bond: int) -> tuple[int, ...]:
    """Bond dimension left of every site (1 at both ends), from shapes alone.

    Each is the smallest of ``max_bond``, the exact bond of the chain, the number of entries to
    its left, and the number of entries of the core to its right.
    """
    dims = terms[0].phys_dims
    L = len(dims)
    bonds = [1] * (L + 1)
    for k in range(L - 1, 0, -1):
        exact = sum(term.width(k) for term in terms)
        bonds[k] = min(max_bond, exact, prod(dims[:k]), dims[k] * bonds[k + 1])
    return tuple(bonds)


def compress_src(
    terms: tuple[Term, ...], omegas: tuple[Array, ...], max_bond: int
) -> tuple[Array, ...]:
    """Compress a sum of terms to bond dimension ``max_bond``.

    Parameters
    ----------
    terms : tuple of Term
        Same sites and physical dimensions; batch sizes equal or 1.
    omegas : tuple of array (size, out_k)
        Test matrices of sites 0 ... L - 2, on the backend of the terms, ``size >= max_bond``.
    max_bond : int

    Returns
    -------
    tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core; directions beyond the
        rank of a sample are zero.
    """
    L = terms[0].L
    batch = max(term.batch_size for term in terms)
    dims = terms[0].phys_dims
    bonds = output_bonds(terms, max_bond)
    like = terms[0].sites[0][0].array
    weighed = len(terms) > 1
    envs: list[list[tuple[Array, Array]]] = [[]]  # envs[k][t]: E and its log scale, left of site k
    env = [(do("ones", (batch, max(bonds), 1), like=like), 0.0)] * len(terms)
    for k in range(L - 1):
        size = max(bonds[k + 1 :])  # later cuts need no more rows than this
        env = [
            _unit_rows(t.extend_left(e[:, :size], k, omegas[k][:size]), log, weighed)
            for t, (e, log) in zip(terms, env, strict=True)
        ]
        envs.append(env)

    cores: list[Array] = [None] * L
    rights = [do("ones", (batch, 1, 1), like=like) * term.scale for term in terms]
    log_scale = 0.0
    for k in range(L - 1, 0, -1):
        sites = [t.absorb_right(k, r) for t, r in zip(terms, rights, strict=True)]
        sites = [do("reshape", m, (batch, m.shape[1], -1)) for m in sites]  # (batch, w, out*r)
        sketch, magnitude = _sketch(envs[k], sites, bonds[k])  # (batch, s, out*r), (batch, s)
        q = orthonormalize(permute(sketch, 0, 2, 1), magnitude)  # (batch, out*r, s)
        cores[k] = do("reshape", permute(q, 0, 2, 1), (batch, bonds[k], dims[k], bonds[k + 1]))
        q = do("conj", q) if is_complex(q) else q
        rights = [m @ q for m in sites]  # (batch, w, s)
        scale = unit_scale(rights[0], 1)
        for other in rights[1:]:
            more = unit_scale(other, 1)
            scale = do("where", more > scale, more, scale)
        rights = [r / scale[:, None, None] for r in rights]
        log_scale = log_scale + do("log", scale)
    first = sum(t.absorb_right(0, r) for t, r in zip(terms, rights, strict=True))
    norm = safe_norm(first, (1, 2, 3))  # (batch,)
    norm = do("where", norm > 0, norm, do("ones_like", norm))
    cores[0] = first / norm[:, None, None, None]
    return spread(cores, log_scale + do("log", norm))


def _unit_rows(env: Array, log: Array, weighed: bool) -> tuple[Array, Array]:
    scale = unit_scale(env, 2)  # (batch, s)
    if weighed:
        log = do("log", scale) + (log if isinstance(log, float) else log[:, : env.shape[1]])
    return env / scale[:, :, None], log


def _sketch(envs: list[tuple[Array, Array]], sites: list[Array], bond: int) -> tuple[Array, Array]:
    """Sum of E M over the terms, and the size of the numbers that went into each of its rows.

    A row is scaled so that its largest term has size 1: with sum_t e^(a_t) E_t M_t and unit E_t
    the terms have sizes e^(a_t) |M_t|.
    """
    norms = [unit_scale(m, 1)[:, None] for m in sites]  # (batch, 1)
    if len(sites) == 1:
        return envs[0][0][:, :bond] @ sites[0], norms[0]
    sizes = [log[:, :bond] + do("log", n) for (_, log), n in zip(envs, norms, strict=True)]
    peak = sizes[0]
    for other in sizes[1:]:
        peak = do("where", other > peak, other, peak)
    sketch = magnitude = 0.0
    for (env, log), site, size in zip(envs, sites, sizes, strict=True):
        weight = do("exp", log[:, :bond] - peak)[:, :, None]
        sketch = sketch + (env[:, :bond] * weight) @ site
        magnitude = magnitude + do("exp", size - peak)
    return sketch, magnitude
