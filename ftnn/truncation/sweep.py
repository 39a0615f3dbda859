r"""Common parts of the truncation methods: a sum of terms in blocks, and the projecting sweep.

Every method here has the same second half. From right to left, with :math:`M_k` the site k of
the chain T times the right environment :math:`R_{k+1}`, it chooses an orthonormal basis
:math:`Q_k` (bond, out * right), which is core k, and goes on with
:math:`R_k = M_k Q_k^\dagger`; core 0 is :math:`M_0`. Step k replaces T by its orthogonal projection
onto the rows of Q_k at the cut left of site k, inside what the steps before left of it. So whatever
the bases are,

.. math:: \|T - C\|^2 = \|T\|^2 - \|C\|^2, \qquad
          \|C\|^2 / \|T\|^2 = \prod_k (1 - \delta_k),

with :math:`\delta_k` the relative squared weight discarded at cut k. The methods differ in the
left environment by which they choose the basis:

===============  ============================================================================
zipup            none: the operands are brought to left-canonical form instead
direct           the exact one, as the triangular factor of a QR decomposition
dm               the exact one, as its Gram (density) matrix
sdc              the exact one, truncated by SVD from site to site
src              contracted with random vectors
fit              contracted with the approximation of the sweep before
===============  ============================================================================

With several terms an environment is a tuple of blocks, one a term: the joint bond of the sum is
the direct sum of theirs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from autoray import do

from ..arrays.backend import Array, as_dtype_of, real_name, tiny
from ..arrays.functions import (
    adjoint,
    at_least,
    at_most,
    concat,
    largest,
    log,
    peaks,
    replace_small,
    replace_zeros,
    stack,
    sum_over,
)
from ..arrays.recompute import step_of_truncation
from ..arrays.scales import (
    DEAD,
    divide_by_peaks,
    log_peaks,
    log_where,
    safe_norm,
    spread,
    unit_scale,
    zero_bound,
)
from ..chains.bonds import MaxBond, bond_at
from ..chains.canonical import canonical_cores, site_of
from ..chains.terms import Apply, Hadamard, Node, State, Term

Blocks = tuple[Array, ...]
"""An environment, one array per term: left ``(batch, s, w_t)``, right ``(batch, w_t, r)``."""


class Rows(NamedTuple):
    """Sketched left environments of a cut.

    Attributes
    ----------
    envs : tuple of array (batch, s, w_t)
        One per term.
    logs : array (t, batch, s) or None
        Logarithm of what was divided out of the rows; None if it is not needed.
    dead : array (t, batch, s) or None
        :data:`DEAD` of rows of zeros, 0 of others; None of a single term.
    """

    envs: Blocks
    logs: Array | None
    dead: Array | None


Basis = Callable[[int, Blocks], tuple[Array, Array | None]]
"""Given k and M_k, blocks (batch, w_t, out * r): Q_k (batch, s, out * r), and the relative
squared weight (batch,) that it discards, if the method knows it."""


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum of terms, times ``exp(log_scale)``.

    Attributes
    ----------
    terms : tuple of Term
        Same sites and physical dimensions; batch sizes equal or 1. Their scales are ignored.
    weights : tuple of (float, complex or array (batch,))
        Factor of every term, of modulus one.
    logs : array (t, batch)
        Logarithm of what was divided out of every term, relative to the largest that is not zero.
    log_scale : array (batch,)
    peaks : tuple of (tuple of array (batch, 1, 1) or None)
        Remaining divisors of the cores of every term, if any.
    """

    terms: tuple[Term, ...]
    weights: tuple[Array, ...]
    logs: Array
    log_scale: Array
    peaks: tuple[tuple[Array, ...] | None, ...]

    @classmethod
    def scaled(cls, terms: tuple[Term, ...]) -> "Sum":
        """Divide all cores by their largest entry, and weigh the terms instead.

        Of a term with a single state of a batch, its cores stay as they are and the environments
        are divided: nothing of the size of the batch is copied.
        """
        parts = [_scaled(term.node) for term in terms]
        return cls._weighed(terms, *zip(*parts, strict=True))

    @classmethod
    def prepared(cls, terms: tuple[Term, ...], canonical: str | None = None) -> "Sum":
        """Scale the cores of all states and operators to norm 1, and weigh the terms instead.

        Parameters
        ----------
        terms : tuple of Term
        canonical : {"left", "right"}, optional
            Also bring every state and every operator to this canonical form.
        """
        nodes, sizes = zip(*(_prepared(term.node, canonical) for term in terms), strict=True)
        total = cls._weighed(terms, nodes, sizes, (None,) * len(terms))
        if len(terms) == 1:
            return total
        # what is zero may have a weight above the others: its zeros take it, not its other cores,
        # next to which those of the other terms would be lost
        excess = at_least(total.logs, 0.0)
        factors = tuple(do("exp", excess))
        return replace(
            total,
            terms=tuple(
                Term(_zeros_times(term.node, factor))
                for term, factor in zip(total.terms, factors, strict=True)
            ),
            logs=total.logs - excess,
        )

    @classmethod
    def _weighed(
        cls,
        terms: tuple[Term, ...],
        nodes: tuple[Node, ...],
        sizes: tuple["Size", ...],
        peaks: tuple[tuple[Array, ...] | None, ...],
    ) -> "Sum":
        weights, factors = zip(*(_polar(term.scale) for term in terms), strict=True)
        sizes = tuple(_times(size, factor) for size, factor in zip(sizes, factors, strict=True))
        like, bare = terms[0].like, tuple(Term(node) for node in nodes)
        batch = max(term.batch_size for term in terms)
        if len(terms) == 1:
            none = do("zeros", (1, batch), like=do("real", like))
            return cls(bare, weights, none, sizes[0][0], peaks)
        logs = stack([do("broadcast_to", log, (batch,)) for log, _ in sizes], 0)
        live = stack([do("broadcast_to", live, (batch,)) for _, live in sizes], 0)
        # a term of zeros does not say how large the others are
        top = largest(log_where(live, logs), 0)  # (1, batch)
        # if all terms are zero, their scale does not matter
        top = do("where", top > 0.5 * DEAD, top, do("zeros_like", top))
        logs = _capped(do("astype", logs - top, real_name(like)), like)
        return cls(bare, weights, logs, top[0], peaks)

    @property
    def L(self) -> int:
        """Number of sites."""
        return self.terms[0].L

    @property
    def batch(self) -> int:
        """Number of samples."""
        return max(term.batch_size for term in self.terms)

    @property
    def dims(self) -> tuple[int, ...]:
        """Outgoing physical dimension of every site."""
        return self.terms[0].phys_dims

    @property
    def like(self) -> Array:
        """Some array, for backend, dtype and device."""
        return self.terms[0].like

    def signs(self) -> Blocks:
        """Return the left environments of site 0, (batch, 1, 1), without the sizes of the terms."""
        ones = do("ones", (self.batch, 1, 1), like=self.like)
        return tuple(
            ones * w if isinstance(w, _NUMBERS) else ones * do("reshape", w, (-1, 1, 1))
            for w in self.weights
        )

    def edge(self, size: int, keep_logs: bool = True) -> Rows:
        """Return equal rows left of site 0, with the sizes of the terms in their logarithms."""
        ones = do("ones", (1, size, 1), like=self.like)
        envs = tuple(ones * sign for sign in self.signs())
        if not keep_logs:
            return Rows(envs, None, None)
        logs = do("broadcast_to", self.logs[:, :, None], (*self.logs.shape, size))
        return Rows(envs, logs, None if len(envs) == 1 else do("zeros_like", logs))

    def left_edge(self) -> Blocks:
        """Return the left environments of site 0, (batch, 1, 1): the weights of the terms."""
        sizes = as_dtype_of(do("exp", self.logs), self.like)[:, :, None, None]
        return tuple(sign * size for sign, size in zip(self.signs(), sizes, strict=True))

    def right_edge(self) -> Blocks:
        """Return the right environments of the last site, (batch, 1, 1)."""
        ones = do("ones", (self.batch, 1, 1), like=self.like)
        tops = self.peaks_at(self.L - 1)
        return tuple(ones if top is None else ones / top for top in tops)

    def peaks_at(self, k: int) -> tuple[Array | None, ...]:
        """Return the remaining divisors of the cores of site ``k``, for every term."""
        return tuple(None if tops is None else tops[k] for tops in self.peaks)

    def absorb_left(self, k: int, left: Blocks) -> Blocks:
        """Map blocks (batch, s, w_t) to blocks (batch, s * out, w'_t)."""
        found = (t.absorb_left(k, e) for t, e in zip(self.terms, left, strict=True))
        return tuple(do("reshape", a, (a.shape[0], -1, a.shape[3])) for a in found)

    def absorb_right(self, k: int, right: Blocks) -> Blocks:
        """Map blocks (batch, w'_t, r) to blocks (batch, w_t, out * r)."""
        found = (t.absorb_right(k, r) for t, r in zip(self.terms, right, strict=True))
        return tuple(do("reshape", m, (m.shape[0], m.shape[1], -1)) for m in found)


def output_bonds(terms: tuple[Term, ...], max_bond: MaxBond | None) -> tuple[int, ...]:
    """Return the bond dimension left of every site (1 at both ends), from shapes alone.

    Each is the smallest of ``max_bond``, the exact bond of the chain, and what the sites to its
    left and to its right can carry.
    """
    dims = terms[0].phys_dims
    L = len(dims)
    bonds = [1] * (L + 1)
    for k in range(1, L):
        exact = sum(term.width(k) for term in terms)
        bonds[k] = min(exact, bonds[k - 1] * dims[k - 1])
    for k in range(L - 1, 0, -1):
        bonds[k] = min(bonds[k], dims[k] * bonds[k + 1], bond_at(max_bond, k) or bonds[k])
    return tuple(bonds)


def sweep(total: Sum, basis: Basis) -> tuple[tuple[Array, ...], Array | None]:
    """Project a sum of terms from right to left; see the top of this file.

    Parameters
    ----------
    total : Sum
    basis : callable
        Chooses Q_k; called for k = L - 1 ... 1.

    Returns
    -------
    cores : tuple of array (batch, left, out, right)
        Right-canonical up to a scale per sample, the same on every core.
    discarded : array (batch, L - 1) or None
        Relative squared weight discarded at every cut, if ``basis`` returns it.
    """
    L, batch, dims = total.L, total.batch, total.dims
    cores: list[Array] = [None] * L
    discarded: list[Array] = []
    rights, scales = total.right_edge(), []
    for k in range(L - 1, 0, -1):
        step = partial(_step, total, basis, k)
        q, lost, rights, scale = step_of_truncation(step, rights)
        cores[k] = do("reshape", q, (batch, q.shape[1], dims[k], -1))
        if lost is not None:
            discarded.insert(0, lost)
        scales.append(scale)
    log_scale, sites = total.log_scale, total.absorb_right(0, rights)
    if len(sites) == 1:
        first = total.signs()[0] @ sites[0]  # (batch, 1, out*r)
    else:
        first, _, log_first = sketch(total.edge(1), sites, 1)
        assert log_first is not None
        log_scale = log_scale + log_first[:, 0]
    norm = replace_zeros(safe_norm(first, (1, 2)))  # (batch,)
    cores[0] = do("reshape", first / norm[:, None, None], (batch, 1, dims[0], -1))
    known = len(discarded) == L - 1 and L > 1
    # the logarithms of all sites at once: an operation a site would take longer than its work
    log_scale = log_scale + sum_over(log(stack([*scales, norm], 1)), (1,))
    return (
        spread(cores, log_scale),
        stack(discarded, 1) if known else None,
    )


def _step(
    total: Sum, basis: Basis, k: int, rights: Blocks
) -> tuple[Array, Array | None, Blocks, Array]:
    """Return Q_k, the discarded weight, and the next right environments with their scale."""
    sites = total.absorb_right(k, rights)  # (batch, w, out*r)
    q, lost = basis(k, sites)  # (batch, s, out*r)
    return q, lost, *unit_blocks(project(sites, q), total.peaks_at(k - 1))


def project(sites: Blocks, q: Array) -> Blocks:
    """Return ``M Q^H``, block by block: (batch, w_t, s)."""
    back = adjoint(q)
    return tuple(m @ back for m in sites)


def join(left: Blocks, right: Blocks) -> Array:
    """Contract the joint bond: the sum of the products of the blocks."""
    return sum(e @ m for e, m in zip(left, right, strict=True))


def merge(blocks: Blocks, axis: int) -> Array:
    """Concatenate blocks to one array."""
    return blocks[0] if len(blocks) == 1 else concat(blocks, axis)


def split(array: Array, like: Blocks) -> Blocks:
    """Split the last axis of ``array`` as ``like`` is."""
    if len(like) == 1:
        return (array,)
    ends = np.cumsum([0] + [block.shape[-1] for block in like])
    return tuple(array[..., a:b] for a, b in pairwise(ends))


def unit_blocks(
    blocks: Blocks, peaks: tuple[Array | None, ...] | None = None
) -> tuple[Blocks, Array]:
    """Scale so that the largest block of every sample has norm 1; the scale is (batch,).

    ``peaks``, if given, divide the blocks as well, and do not count as their scale.
    """
    scale = unit_scale(blocks[0], 1)
    for block in blocks[1:]:
        scale = do("maximum", scale, unit_scale(block, 1))
    size = do("reshape", scale, (-1, 1, 1))
    tops = peaks or (None,) * len(blocks)
    return tuple(block / times(size, top) for block, top in zip(blocks, tops, strict=True)), scale


def times(scale: Array, top: Array | None) -> Array:
    """Multiply a scale by the peak of a core, if there is one to divide by.

    What is zero times what is small must not become zero, by which zeros would be divided.
    """
    return scale if top is None else at_least(scale * top, tiny(scale))


def sketch(rows: Rows, sites: Blocks, bond: int) -> tuple[Array, Array, Array | None]:
    """Sum E M over the terms, with rows of size one.

    A row is scaled so that its largest term has size 1: with ``sum_t e^(a_t) E_t M_t`` and unit E_t
    the terms have sizes ``e^(a_t) |M_t|``. Zeros have none; but the factor of a term of zeros is
    that of its gradient, by which a bias that starts at zero learns.

    Returns
    -------
    sketch : array (batch, bond, out*r)
    magnitude : array (batch, 1)
        Size of the numbers that went into the rows.
    log : array (batch, bond) or None
        Logarithm of what each row was divided by; None if ``rows`` does not know its own.
    """
    if len(sites) == 1:
        y = rows.envs[0][:, :bond] @ sites[0]
        # the rows of E have norm 1: all rows of Y carry the rounding of the largest
        logs = None if rows.logs is None else rows.logs[0, :, :bond]
        return y, largest(unit_scale(y, 2), 1), logs
    assert rows.logs is not None
    assert rows.dead is not None
    logs = rows.logs[:, :, :bond]  # (terms, batch, bond)
    norms = stack([unit_scale(site, 1) for site in sites], 0)[:, :, None]
    own = replace_small(do("log", norms), math.log(zero_bound(norms)), DEAD)  # (terms, batch, 1)
    sizes = logs + rows.dead[:, :, :bond] + own
    top = largest(sizes, 0)  # (1, batch, bond)
    shift = top * (top > 0.5 * DEAD)  # where all are zero, their scale does not matter
    weights = tuple(do("exp", _capped(logs - shift, norms))[..., None])
    total = sum(
        (env[:, :bond] * weight) @ site
        for env, weight, site in zip(rows.envs, weights, sites, strict=True)
    )
    magnitude = sum_over(do("exp", sizes - top), (0,))  # (batch, bond)
    return total, largest(magnitude, 1), shift[0]


# ---- preparation of the operands -----------------------------------------------------------------

_NUMBERS = (int, float, complex, np.number)

Size = tuple[Any, Any]
"""Return the logarithm (batch,) of the scale of a term, and whether none of it was zero."""


def _times(first: Size, second: Size) -> Size:
    if isinstance(second[0], float) and second == (0.0, True):
        return first
    return first[0] + second[0], first[1] & second[1]


def _capped(log: Array, like: Array) -> Array:
    """Clip a logarithm whose exponential would overflow, which only zeros have."""
    return at_most(log, -0.5 * math.log(tiny(like)))


def _polar(scale: Array) -> tuple[Array, Size]:
    """Split a factor, a number or an array (batch,), into one of modulus 1 and its size."""
    if isinstance(scale, _NUMBERS):
        size: Any = abs(scale)
        return (scale / size, (math.log(size), True)) if size else (0.0, (0.0, False))
    flat = do("reshape", scale, (-1,))
    (top,), *own = log_peaks([flat], 1)
    return flat / as_dtype_of(top, flat), (own[0], own[1])


def _scaled(node: Node) -> tuple[Node, Size, tuple[Array, ...] | None]:
    """Return a node, the size that it is to be multiplied by, and its peaks.

    A node without peaks has been divided already.
    """
    match node:
        case State(cores) if cores[0].shape[0] > 1:
            tops, log, live = log_peaks(cores, 3)
            return node, (log, live), tops
        case State(cores):  # of one sample, which may serve a batch: it is small
            cores, *own = divide_by_peaks(cores)
            return State(cores), (own[0], own[1]), None
        case Apply(cores, child):
            cores, *own = divide_by_peaks(cores)
            child, more, peaks = _scaled(child)
            return Apply(cores, child), _times((own[0], own[1]), more), peaks
        case Hadamard(first, second):
            first, size = _divided(*_scaled(first))
            second, more = _divided(*_scaled(second))
            return Hadamard(first, second), _times(size, more), None


def _divided(node: Node, size: Size, tops: tuple[Array, ...] | None) -> tuple[Node, Size]:
    match node:
        case State(cores) if tops is not None:
            node = State(tuple(c / top[..., None] for c, top in zip(cores, tops, strict=True)))
        case Apply(cores, child):
            node = Apply(cores, _divided(child, size, tops)[0])
    return node, size


def _prepared(node: Node, canonical: str | None) -> tuple[Node, Size]:
    match node:
        case State(cores):
            cores, own = _prepare_cores(cores, canonical)
            return State(cores), own
        case Apply(cores, child):
            # an operator is prepared as the state with its two physical indices fused
            fused = tuple(do("reshape", c, (1, c.shape[0], -1, c.shape[3])) for c in cores)
            fused, own = _prepare_cores(fused, canonical)
            weights = tuple(
                do("reshape", f, (f.shape[1], *c.shape[1:3], f.shape[3]))
                for f, c in zip(fused, cores, strict=True)
            )
            child, more = _prepared(child, canonical)
            return Apply(weights, child), _times(own, more)
        case Hadamard(first, second):
            first, own = _prepared(first, canonical)
            second, more = _prepared(second, canonical)
            return Hadamard(first, second), _times(own, more)


def _zeros_times(node: Node, factor: Array) -> Node:
    """Multiply cores that are zero by factors (batch,): only their gradients see it."""

    def times(core: Array) -> Array:
        by = do("where", peaks(core) > 0, do("ones_like", factor), factor)
        return core * as_dtype_of(by, core)[:, None, None, None]

    match node:
        case State(cores):
            return State(tuple(times(core) for core in cores))
        case Apply(cores, child):  # a weight of zeros serves all samples: it has one factor
            return Apply(cores, _zeros_times(child, factor))
        case Hadamard(first, second):
            return Hadamard(_zeros_times(first, factor), _zeros_times(second, factor))


def _prepare_cores(
    cores: tuple[Array, ...], canonical: str | None
) -> tuple[tuple[Array, ...], Size]:
    tops, own, live = log_peaks(cores, 4)
    cores = tuple(core / top for core, top in zip(cores, tops, strict=True))
    if canonical:
        cores, log_norm = canonical_cores(cores, site_of(canonical, len(cores)))
        return cores, (own + log_norm, live)
    scales = stack([unit_scale(core, 1) for core in cores], 0)  # (sites, batch)
    scales = replace_zeros(scales, zero_bound(scales))
    sizes = tuple(do("reshape", scales, (len(cores), -1, 1, 1, 1)))
    scaled = tuple(core / size for core, size in zip(cores, sizes, strict=True))
    return scaled, (own + sum_over(log(scales), (0,)), live)


def exact_bond(terms: tuple[Term, ...]) -> int:
    """Return the largest bond dimension that the chain can need."""
    return max(output_bonds(terms, None))
