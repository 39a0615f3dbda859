r"""Density matrix compression (McCulloch 2007; Ma, Fishman, Stoudenmire, Solomonik, 2024).

Left to right, the Gram matrices :math:`G_k` of everything left of a cut; right to left, the
leading eigenvectors of the density matrix :math:`M_k^T \bar G_k \bar M_k`. The basis is that of
direct compression, computed from squares: errors below the square root of the machine epsilon are
not resolved. Single-precision input is therefore processed in double precision.
"""

from itertools import accumulate

from autoray import do

from ..arrays.backend import Array, as_dtype_of, in_double
from ..arrays.functions import adjoint, matrix_transpose
from ..arrays.svd import discarded_weight, hermitian_vectors, leading, smallest_bond
from ..chains.bonds import MaxBond, output_bonds
from ..chains.overlap import absorb_each
from ..chains.terms import Apply, Hadamard, Node, State, Term, extend_overlap
from .sum import Blocks, Sum, merge
from .sweep import sweep


def compress_dm(
    terms: tuple[Term, ...], max_bond: MaxBond | None = None, rtol: float = 0.0
) -> tuple[tuple[Array, ...], Array | None]:
    """Compress a sum of terms by eigenvectors of its density matrices.

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
        Relative squared weight discarded at every cut, exact to rounding of the total.
    """
    like = terms[0].like
    total = Sum.with_unit_norms(tuple(Term(_widen(term.node), term.scale) for term in terms))
    bonds = output_bonds(terms, max_bond)
    grams = _grams(total)

    def basis(k: int, sites: Blocks) -> tuple[Array, Array]:
        m = merge(sites, 1)  # (batch, W, out*r)
        density = matrix_transpose(m) @ do("conj", grams[k]) @ do("conj", m)
        u, values = hermitian_vectors(density)
        s = do("sqrt", do("where", values > 0, values, do("zeros_like", values)))
        bond = bonds[k] if rtol == 0.0 else smallest_bond(s, rtol, total.L - 1, bonds[k])
        return matrix_transpose(leading(u, s, bond)), discarded_weight(s)[:, bond - 1]

    cores, discarded = sweep(total, basis)
    return tuple(as_dtype_of(core, like) for core in cores), discarded


def _grams(total: Sum) -> list[Array]:
    """Compute Gram matrices ``G[w, v] = sum conj(L[:, w]) L[:, v]`` (batch, W, W) of every cut."""
    terms = total.terms

    def step(gram: Array, k: int) -> Array:
        ends = [0, *accumulate(term.width(k) for term in terms)]
        rows: list[list[Array]] = [[] for _ in terms]
        for t, bra in enumerate(terms):
            for u, ket in enumerate(terms):
                if u < t:
                    rows[t].append(adjoint(rows[u][t]))
                    continue
                block = gram[:, ends[t] : ends[t + 1], ends[u] : ends[u + 1]]
                rows[t].append(extend_overlap(bra, ket, block, k))
        return merge(tuple(merge(tuple(row), 2) for row in rows), 1)

    edge = merge(total.left_edge(), 2)  # (batch, 1, terms)
    edge = matrix_transpose(do("conj", edge)) @ edge
    return [env.array for env in absorb_each(step, edge, range(total.L - 1))]


def _widen(node: Node) -> Node:
    match node:
        case State(cores):
            return State(tuple(in_double(core) for core in cores))
        case Apply(cores, child):
            return Apply(tuple(in_double(core) for core in cores), _widen(child))
        case Hadamard(first, second):
            return Hadamard(_widen(first), _widen(second))
