"""truncation_error: the distance of an output from the exact chain that it approximates."""

import math
from typing import Any

import numpy as np

from ..chains.overlap import overlaps_of_terms
from ..chains.terms import Apply, Cores, Hadamard, Node, State, Term
from ..truncation.direct import compress_direct

_ENTRIES = 2**24
"""Entries of an environment in memory at a time; a single sample may have 16 times as many."""

ROUNDING = 1e-6
"""Truncation errors up to this are shown as zero: it is the rounding of single precision over the
sites of a chain, and more than that of differences of overlaps in double precision, about 1e-8."""

_RTOL = 1e-12
"""Relative error to which an elementwise product, or its factors, are compressed beforehand."""


def truncation_error(terms: tuple[Term, ...], output: Cores, work: float = math.inf) -> np.ndarray:
    r"""Compute the relative error of a chain as an approximation of a sum of terms.

    Parameters
    ----------
    terms : tuple of Term
        The exact chain T, in double precision on NumPy.
    output : tuple of array (batch, left, phys, right)
        The chain C.
    work : float
        Approximate number of floating point operations after which the remaining samples are
        skipped.

    Returns
    -------
    array (batch,)
        :math:`\|T - C\| / \|T\|`; 0 where both are zero, infinite where only T is. NaN for
        samples beyond ``work``, and if the contraction of a single sample does not fit into
        memory (2 GB).

    Notes
    -----
    :math:`\|T - C\|^2` is the sum of the overlaps of all pairs of terms, in log scale, each
    contracted tensor by tensor with all bonds open. No term is formed, and C need not be a
    projection of T. Differences of overlaps cancel: errors below about 1e-8 are rounding.

    The factors of an elementwise product, whose bonds multiply, are first compressed to a relative
    error of 1e-12, which reduces the bonds of low-rank factors; so is the product where that is
    less work, as on chains whose dimensions allow only smaller bonds.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> from ftnn.chains.terms import State, Term
    >>> x = ftnn.MPS.from_dense(np.array([[3.0, 0.0, 0.0, 4.0]]), (2, 2))
    >>> y = ftnn.MPS.from_dense(np.array([[3.0, 0.0, 0.0, 0.0]]), (2, 2))
    >>> print(ftnn.interpret.truncation_error((Term(State(x.cores)),), y.cores).round(6))
    [0.8]
    """
    batch = output[0].shape[0]
    errors = np.full(batch, np.nan)
    exact = [Term(_condense(term.node), term.scale) for term in terms if np.any(term.scale)]
    merged = [_merges(term) for term in exact]
    chain = Term(State(output), -1.0)
    cost = sum(_compression(term) for term, merge in zip(exact, merged, strict=True) if merge)
    plain = [term for term, merge in zip(exact, merged, strict=True) if not merge]
    cost += _operations((*plain, chain))
    count = batch if work >= batch * cost else int(work / cost)
    if count == 0:
        return errors
    few = [_select(term, slice(count)) for term in (*exact, chain)]
    few = [
        Term(_as_state(term.node), term.scale) if merge else term
        for term, merge in zip(few, (*merged, False), strict=True)
    ]
    entries = max(term.width(k) for term in few for k in range(chain.L)) ** 2
    if entries > 16 * _ENTRIES:
        return errors
    at_once = max(1, _ENTRIES // entries)
    for start in range(0, count, at_once):
        rows = slice(start, min(start + at_once, count))
        errors[rows] = _relative_error([_select(term, rows) for term in few])
    return errors


def _relative_error(terms: list[Term]) -> np.ndarray:
    """Return the relative error (batch,) of the last term as minus the sum of the others."""
    batch = max(term.batch_size for term in terms)
    last = len(terms) - 1
    parts = []
    for m, n, value, log_scale in overlaps_of_terms(terms):
        value = np.real(value * np.conj(terms[m].scale) * terms[n].scale)
        value = np.broadcast_to(value if m == n else 2.0 * value, batch)
        parts.append((n < last, value, np.broadcast_to(log_scale, batch)))
    peak = np.max([np.where(value != 0, log, -np.inf) for _, value, log in parts], axis=0)
    peak = np.where(np.isfinite(peak), peak, 0.0)
    exact = np.zeros(batch)
    square = np.zeros(batch)
    for in_exact, value, log_scale in parts:
        part = value * np.exp(np.minimum(log_scale - peak, 0.0))
        square += part
        if in_exact:
            exact += part
    square = np.clip(square, 0.0, None)
    alive = exact > 0.0
    error = np.sqrt(square / np.where(alive, exact, 1.0))
    return np.where(alive, error, np.where(square > 0.0, np.inf, 0.0))


def _operations(terms: tuple[Term, ...]) -> float:
    """Estimate the floating point operations of all overlaps, for one sample."""
    total = 0.0
    for k in range(terms[0].L):
        for n, ket in enumerate(terms):
            for bra in terms[: n + 1]:
                env = float(bra.width(k)) * ket.width(k)
                bonds = sum(bra.widths(k + 1)) + sum(ket.widths(k + 1))
                total += 2.0 * env * bonds * ket.phys_dims[k]
    return max(total, 1.0)


def _compression(term: Term) -> float:
    """Estimate the floating point operations of compressing a term, for one sample."""
    total, left = 0.0, 1
    for k in range(term.L):
        p, width = term.phys_dims[k], term.width(k + 1)
        rows = left * p  # of the left environment, open at site k
        total += 4.0 * rows * width * (min(rows, width) + sum(term.widths(k)))
        left = min(rows, width)
    return total


def _merges(term: Term) -> bool:
    """Return whether an elementwise product is better compressed as a whole than contracted."""
    return isinstance(term.node, Hadamard) and _compression(term) < _operations((term,))


def _condense(node: Node) -> Node:
    """Compress the factors of an elementwise product."""
    match node:
        case Hadamard(first, second):
            return Hadamard(_as_state(_condense(first)), _as_state(_condense(second)))
        case _:
            return node


def _as_state(node: Node) -> Node:
    if isinstance(node, State):
        return node
    return State(compress_direct((Term(node),), None, _RTOL)[0])


def _select(term: Term, rows: slice) -> Term:
    """Select a range of the samples."""

    def walk(node: Node) -> Node:
        match node:
            case State(cores):
                return State(tuple(c if c.shape[0] == 1 else c[rows] for c in cores))
            case Apply(cores, child):
                return Apply(cores, walk(child))
            case Hadamard(first, second):
                return Hadamard(walk(first), walk(second))

    scale: Any = term.scale
    scale = scale[rows] if np.ndim(scale) else scale
    return Term(walk(term.node), scale)
