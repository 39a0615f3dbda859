"""The lazy chain: what a truncation method compresses, site by site, without forming it.

A batched vector in the tensor-network domain is a sum of terms, each a small expression tree
over states, operators and elementwise products. A truncation method needs three contractions of
a term, and is written once in terms of them:

``extend_left``   E (batch, s, w)          -> E' (batch, s, w')        absorbs site k, sketched
``absorb_left``   E (batch, s, w)          -> (batch, s, out, w')      absorbs site k
``absorb_right``  R (batch, w', r)         -> M  (batch, w, out, r)    absorbs site k

``w`` is the joint bond of all tensors of the term at a cut, in the order of ``Term.widths``:
states before the operators that act on them, so that the state's bond is the slower one. In that
order the contractions of an MPO-MPS product need no permutation of a large array.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import Any

from autoray import do

from ..arrays.backend import Array
from ..arrays.contraction import contract
from .absorption import absorb_state, absorb_state_right, extend_state
from .product import absorb, extend_product, open_product

Cores = tuple[Array, ...]


@dataclass(frozen=True)
class State:
    """Leaf of a term: MPS cores ``(batch, left, phys, right)``; batch 1 broadcasts."""

    cores: Cores


@dataclass(frozen=True)
class Apply:
    """An operator, MPO cores ``(left, out, in, right)``, applied to a node."""

    cores: Cores
    node: "Node"


@dataclass(frozen=True)
class Hadamard:
    """Elementwise product of two nodes."""

    first: "Node"
    second: "Node"


Node = State | Apply | Hadamard


@dataclass(frozen=True)
class Leg:
    """One tensor of a term at one site: its array and the roles of its axes.

    Roles are ``"batch"``, ``"left<n>"``, ``"right<n>"``, ``"out"`` and ``"inner<n>"``.
    """

    array: Array
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Term:
    """``scale`` times the vector described by ``node``.

    The scale is a number, or an array () or (batch,).
    """

    node: Node
    scale: Any = 1.0

    # cheap, and worked out anew each time: a lock behind a cached property would break the graph
    # of torch.compile

    @property
    def L(self) -> int:
        """Number of sites."""
        return len(_leaf(self.node).cores)

    @property
    def batch_size(self) -> int:
        """Largest batch of the states below."""
        return max(state.cores[0].shape[0] for state in _states(self.node))

    @property
    def phys_dims(self) -> tuple[int, ...]:
        """Outgoing physical dimension of every site."""
        return tuple(_outgoing(self.node, k) for k in range(self.L))

    @property
    def like(self) -> Array:
        """Some array of the term, for backend, dtype and device."""
        return _leaf(self.node).cores[0]

    @property
    def sites(self) -> tuple[tuple[Leg, ...], ...]:
        """Tensors of every site, with the roles of their axes."""
        return tuple(self.legs(k) for k in range(self.L))

    def legs(self, k: int) -> tuple[Leg, ...]:
        """Return the tensors of site ``k``, with the roles of their axes."""
        return tuple(_legs(self.node, k))

    def widths(self, cut: int) -> tuple[int, ...]:
        """Return the bond dimension of each tensor at the cut left of site ``cut``."""
        return tuple(_widths(self.node, cut))

    def width(self, cut: int) -> int:
        """Return the joint bond dimension at the cut left of site ``cut``."""
        return prod(self.widths(cut))

    def extend_left(self, env: Array, k: int, omega: Array) -> Array:
        """Absorb site ``k`` and row-wise test matrix ``omega`` into a left environment.

        Parameters
        ----------
        env : array (batch, s, w)
        omega : array (s, out)

        Returns
        -------
        array (batch, s, w')
        """
        match self.node:
            case State(cores):
                return extend_state(env, cores[k], omega)
            case Apply(weights, State(cores)):
                return extend_product(env, weights[k], cores[k], omega)
        batch, s = env.shape[:2]
        env = do("reshape", env, (batch, s, *self.widths(k)))
        legs = self.legs(k)
        inputs = [("batch", "s", *(f"left{n}" for n in range(len(legs)))), ("s", "out")]
        output = ("batch", "s", *(f"right{n}" for n in range(len(legs))))
        new = _contract([env, omega], inputs, legs, output, batch)
        return do("reshape", new, (batch, s, -1))

    def absorb_left(self, k: int, env: Array) -> Array:
        """Absorb site ``k`` into a left environment, its physical index open.

        Parameters
        ----------
        env : array (batch, s, w)

        Returns
        -------
        array (batch, s, out, w')
        """
        match self.node:
            case State(cores):
                new = absorb_state(env, cores[k])
                return do("reshape", new, (*env.shape[:2], *cores[k].shape[2:]))
            case Apply(weights, State(cores)):
                return open_product(env, weights[k], cores[k])
        batch, s = env.shape[:2]
        env = do("reshape", env, (batch, s, *self.widths(k)))
        legs = self.legs(k)
        inputs = [("batch", "s", *(f"left{n}" for n in range(len(legs))))]
        output = ("batch", "s", "out", *(f"right{n}" for n in range(len(legs))))
        new = _contract([env], inputs, legs, output, batch)
        return do("reshape", new, (batch, s, self.phys_dims[k], -1))

    def absorb_right(self, k: int, env: Array) -> Array:
        """Absorb site ``k`` into a right environment.

        Parameters
        ----------
        env : array (batch, w', r)

        Returns
        -------
        array (batch, w, out, r)
        """
        match self.node:
            case State(cores):
                new = absorb_state_right(env, cores[k])
                return do("reshape", new, (*new.shape[:2], cores[k].shape[2], -1))
            case Apply(weights, State(cores)):
                return absorb(weights[k], cores[k], env)
        batch, _, r = env.shape
        env = do("reshape", env, (batch, *self.widths(k + 1), r))
        legs = self.legs(k)
        inputs = [("batch", *(f"right{n}" for n in range(len(legs))), "r")]
        output = ("batch", *(f"left{n}" for n in range(len(legs))), "out", "r")
        new = _contract([env], inputs, legs, output, batch)
        return do("reshape", new, (batch, self.width(k), self.phys_dims[k], r))


def extend_overlap(bra: Term, ket: Term, env: Array, k: int) -> Array:
    """Absorb site ``k`` of two terms into the environment of their overlap.

    Parameters
    ----------
    bra, ket : Term
        The bra is conjugated; scales are left out.
    env : array (batch, w of the bra, w of the ket)
    k : int

    Returns
    -------
    array (batch, w' of the bra, w' of the ket)
    """
    batch = env.shape[0]
    env = do("reshape", env, (batch, *bra.widths(k), *ket.widths(k)))
    legs: list[Leg] = []
    ends: dict[str, list[str]] = {"left": [], "right": []}
    for side, term in (("bra ", bra), ("ket ", ket)):
        for leg in term.legs(k):
            roles = tuple(r if r in ("batch", "out") else side + r for r in leg.roles)
            array = do("conj", leg.array) if side == "bra " else leg.array
            legs.append(Leg(array, roles))
            for end, names in ends.items():
                names += [name for name in roles if name.startswith(side + end)]
    inputs = [("batch", *ends["left"])]
    new = _contract([env], inputs, tuple(legs), ("batch", *ends["right"]), batch)
    return do("reshape", new, (batch, bra.width(k + 1), ket.width(k + 1)))


# ---- any other tree, by a cotengra plan ----------------------------------------------------------


def _contract(
    arrays: list[Array],
    inputs: list[tuple[str, ...]],
    legs: tuple[Leg, ...],
    output: tuple[str, ...],
    batch: int,
) -> Array:
    arrays = list(arrays)
    inputs = list(inputs)
    for leg in legs:
        array, roles = leg.array, leg.roles
        if roles[0] == "batch" and array.shape[0] != batch:  # batch 1 broadcasts
            array, roles = array[0], roles[1:]
        arrays.append(array)
        inputs.append(roles)
    return contract(arrays, inputs, output)


def _leaf(node: Node) -> State:
    match node:
        case State():
            return node
        case Apply(_, child):
            return _leaf(child)
        case Hadamard(first, _):
            return _leaf(first)


def _states(node: Node) -> Iterator[State]:
    match node:
        case State():
            yield node
        case Apply(_, child):
            yield from _states(child)
        case Hadamard(first, second):
            yield from _states(first)
            yield from _states(second)


def _outgoing(node: Node, k: int) -> int:
    match node:
        case State(cores):
            return cores[k].shape[2]
        case Apply(cores, _):
            return cores[k].shape[1]
        case Hadamard(first, _):
            return _outgoing(first, k)


def _legs(node: Node, k: int) -> Iterator[Leg]:
    legs, inner = count(), count()

    def walk(node: Node, out: str) -> Iterator[Leg]:
        match node:
            case State(cores):
                n = next(legs)
                yield Leg(cores[k], ("batch", f"left{n}", out, f"right{n}"))
            case Apply(cores, child):  # the state first: see the top of this file
                between = f"inner{next(inner)}"
                yield from walk(child, between)
                n = next(legs)
                yield Leg(cores[k], (f"left{n}", out, between, f"right{n}"))
            case Hadamard(first, second):
                yield from walk(first, out)
                yield from walk(second, out)

    return walk(node, "out")


def _widths(node: Node, cut: int) -> Iterator[int]:
    match node:
        case State(cores):
            yield cores[cut].shape[1] if cut < len(cores) else cores[-1].shape[3]
        case Apply(cores, child):
            yield from _widths(child, cut)
            yield cores[cut].shape[0] if cut < len(cores) else cores[-1].shape[3]
        case Hadamard(first, second):
            yield from _widths(first, cut)
            yield from _widths(second, cut)
