"""A sum of lazy chains in blocks, one a term, at unit scale: what every method compresses.

With several terms an environment is a tuple of blocks, one a term: the joint bond of the sum is
the direct sum of theirs. The cores of all terms are divided by their sizes, whose logarithms weigh
the terms against each other where they meet: so no product of cores overflows or vanishes.
"""

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

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
    replace_zeros,
    stack,
    sum_over,
)
from ..arrays.scales import DEAD, log_peaks, log_where, unit_scale, zero_bound
from ..chains.canonical import canonical_cores, site_of
from ..chains.magnitude import divide_node
from ..chains.terms import Apply, Hadamard, Node, State, Term

Blocks = tuple[Array, ...]
"""An environment, one array per term: left ``(batch, s, w_t)``, right ``(batch, w_t, r)``."""


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
    """

    terms: tuple[Term, ...]
    weights: tuple[Array, ...]
    logs: Array
    log_scale: Array

    @classmethod
    def with_unit_peaks(cls, terms: tuple[Term, ...]) -> "Sum":
        """Divide all cores by their largest entry, and weigh the terms instead."""
        parts = [divide_node(term.node) for term in terms]
        return cls._weigh(terms, tuple(p[0] for p in parts), tuple(p[1:] for p in parts))

    @classmethod
    def with_unit_norms(cls, terms: tuple[Term, ...], canonical: str | None = None) -> "Sum":
        """Scale the cores of all states and operators to norm 1, and weigh the terms instead.

        Parameters
        ----------
        terms : tuple of Term
        canonical : {"left", "right"}, optional
            Also bring every state and every operator to this canonical form.
        """
        nodes, sizes = zip(*(_prepare(term.node, canonical) for term in terms), strict=True)
        total = cls._weigh(terms, nodes, sizes)
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
    def _weigh(
        cls,
        terms: tuple[Term, ...],
        nodes: tuple[Node, ...],
        sizes: tuple["Size", ...],
    ) -> "Sum":
        weights, factors = zip(*(_polar(term.scale) for term in terms), strict=True)
        sizes = tuple(_times(size, factor) for size, factor in zip(sizes, factors, strict=True))
        like, bare = terms[0].like, tuple(Term(node) for node in nodes)
        batch = max(term.batch_size for term in terms)
        if len(terms) == 1:
            none = do("zeros", (1, batch), like=do("real", like))
            return cls(bare, weights, none, sizes[0][0])
        logs = stack([do("broadcast_to", log, (batch,)) for log, _ in sizes], 0)
        live = stack([do("broadcast_to", live, (batch,)) for _, live in sizes], 0)
        # a term of zeros does not say how large the others are
        top = largest(log_where(live, logs), 0)  # (1, batch)
        # if all terms are zero, their scale does not matter
        top = do("where", top > 0.5 * DEAD, top, do("zeros_like", top))
        logs = cap_log(do("astype", logs - top, real_name(like)), like)
        return cls(bare, weights, logs, top[0])

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

    def left_edge(self) -> Blocks:
        """Return the left environments of site 0, (batch, 1, 1): the weights of the terms."""
        sizes = as_dtype_of(do("exp", self.logs), self.like)[:, :, None, None]
        return tuple(sign * size for sign, size in zip(self.signs(), sizes, strict=True))

    def right_edge(self) -> Blocks:
        """Return the right environments of the last site, (batch, 1, 1)."""
        return (do("ones", (self.batch, 1, 1), like=self.like),) * len(self.terms)

    def absorb_left(self, k: int, left: Blocks) -> Blocks:
        """Map blocks (batch, s, w_t) to blocks (batch, s * out, w'_t)."""
        found = (t.absorb_left(k, e) for t, e in zip(self.terms, left, strict=True))
        return tuple(do("reshape", a, (a.shape[0], -1, a.shape[3])) for a in found)

    def absorb_right(self, k: int, right: Blocks) -> Blocks:
        """Map blocks (batch, w'_t, r) to blocks (batch, w_t, out * r)."""
        found = (t.absorb_right(k, r) for t, r in zip(self.terms, right, strict=True))
        return tuple(do("reshape", m, (m.shape[0], m.shape[1], -1)) for m in found)


# ---- blocks


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


def unit_blocks(blocks: Blocks) -> tuple[Blocks, Array]:
    """Scale so that the largest block of every sample has norm 1; the scale is (batch,)."""
    scale = unit_scale(blocks[0], 1)
    for block in blocks[1:]:
        scale = do("maximum", scale, unit_scale(block, 1))
    size = do("reshape", scale, (-1, 1, 1))
    return tuple(block / size for block in blocks), scale


# ---- preparation of the operands

_NUMBERS = (int, float, complex, np.number)

Size = tuple[Any, Any]
"""Return the logarithm (batch,) of the scale of a term, and whether none of it was zero."""


def _times(first: Size, second: Size) -> Size:
    if isinstance(second[0], float) and second == (0.0, True):
        return first
    return first[0] + second[0], first[1] & second[1]


def cap_log(log: Array, like: Array) -> Array:
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


def _prepare(node: Node, canonical: str | None) -> tuple[Node, Size]:
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
            child, more = _prepare(child, canonical)
            return Apply(weights, child), _times(own, more)
        case Hadamard(first, second):
            first, own = _prepare(first, canonical)
            second, more = _prepare(second, canonical)
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
