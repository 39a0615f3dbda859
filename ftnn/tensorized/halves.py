"""A weight as two factors, which inputs are multiplied by one after the other.

Cores on either side of a bond are contracted to a factor each, and both products are of matrices
(CoMERA, arXiv:2405.14377). Of the legs, the left factor has the first, the right factor the last,
so that no product needs its terms permuted: either the right factor comes first,

    (batch in_left, in_right) (in_right, rank out_right)     -> (batch in_left, rank out_right)
    (out_left, in_left rank) (batch; in_left rank, out_right) -> (batch; out_left, out_right)

or the left one, as in a mirror. The side with the fewer multiplications comes first.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..arrays.contraction import contract
from .graph import Graph, Names

WIDE = 16
"""Columns from which on a product a sample is faster than one for all, with terms permuted."""


@dataclass(frozen=True)
class Halves:
    """The cores of a graph in two parts.

    Attributes
    ----------
    left, right : tuple of int
        Cores; the left ones have the first outputs and the first inputs.
    bonds : tuple of str
        Between them.
    outs, ins : (int, int)
        Sizes of the outputs, and of the inputs, of both.
    rank : int
        Size of all bonds between them.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    bonds: Names
    outs: tuple[int, int]
    ins: tuple[int, int]
    rank: int

    @property
    def entries(self) -> int:
        """Number of entries of both factors."""
        return self.rank * sum(o * i for o, i in zip(self.outs, self.ins, strict=True))

    @property
    def costs(self) -> tuple[int, int]:
        """Multiplications for a row: with the left factor first, and with the right one."""
        (left, right), (first, last) = self.outs, self.ins
        return (
            self.rank * left * last * (first + right),
            self.rank * first * right * (last + left),
        )

    @property
    def columns(self) -> int:
        """Columns of the product that is made for every sample, or 1 where it is made for all."""
        return self.outs[1] if self.right_first else self.ins[1]

    @property
    def right_first(self) -> bool:
        """Whether the right factor comes first."""
        return self.costs[1] <= self.costs[0]

    def factors(self, graph: Graph, cores: list[Tensor]) -> list[Tensor]:
        """Contract cores to two matrices, in the order in which they come."""

        def matrix(group: tuple[int, ...], order: str, rows: int) -> Tensor:
            held = {name for n in group for name in graph.cores[n]}
            parts = {
                "outs": [leg for leg in graph.out_legs if leg in held],
                "ins": [leg for leg in graph.in_legs if leg in held],
                "bonds": self.bonds,
            }
            names = tuple(name for part in order.split() for name in parts[part])
            terms = [graph.cores[n] for n in group]
            if len(group) == 1:  # without the detour of a plan
                whole = cores[group[0]].permute([terms[0].index(name) for name in names])
            else:
                whole = contract([cores[n] for n in group], terms, names)
            return whole.reshape(rows, -1)

        left, right = self.outs
        if self.right_first:
            first = matrix(self.right, "bonds outs ins", self.rank * right)
            return [first, matrix(self.left, "outs ins bonds", left)]
        first = matrix(self.left, "outs bonds ins", left * self.rank)
        return [first, matrix(self.right, "outs bonds ins", right)]

    def multiply(self, x: Tensor, factors: list[Tensor]) -> Tensor:
        """Multiply rows (batch, in) by both factors; (batch, out)."""
        first, second = factors
        batch, linear = x.shape[0], nn.functional.linear
        (left, right), (before, after) = self.outs, self.ins
        if self.right_first:
            z = linear(x.reshape(batch * before, after), first)  # (batch in_left, rank out_right)
            if right == 1:
                return linear(z.view(batch, before * self.rank), second)
            z = z.view(batch, before * self.rank, right)
            return shared(second, z).view(batch, left * right)
        # (batch, out_left rank, in_right)
        z = linear(x, first) if after == 1 else shared(first, x.reshape(batch, before, after))
        return linear(z.view(batch * left, self.rank * after), second).view(batch, left * right)


def cuts(graph: Graph) -> Iterator[Halves]:
    """Yield the ways to part a graph where one side has the first legs, the other the last."""
    count = len(graph.cores)
    if graph.is_tree:
        groups = [graph.cores_behind(bond) for bond in graph.bonds]
    else:
        groups = [tuple(range(n)) for n in range(1, count)]
    for group in groups:
        rest = tuple(n for n in range(count) if n not in group)
        for left, right in ((group, rest), (rest, group)):
            held = {name for n in left for name in graph.cores[n]}
            if not all(_first(legs, held) for legs in (graph.out_legs, graph.in_legs)):
                continue
            across = {name for n in right for name in graph.cores[n]}
            bonds = tuple(name for name in graph.bonds if name in held and name in across)
            outs, ins = (
                prod(graph.sizes[leg] for leg in legs if leg in held)
                for legs in (graph.out_legs, graph.in_legs)
            )
            rows, columns = (
                prod(graph.sizes[leg] for leg in legs) for legs in (graph.out_legs, graph.in_legs)
            )
            rank = prod(graph.sizes[bond] for bond in bonds)
            yield Halves(left, right, bonds, (outs, rows // outs), (ins, columns // ins), rank)
            break


def halves(graph: Graph) -> Halves:
    """Part a graph of several cores where the two products are the cheapest.

    Examples
    --------
    >>> from ftnn.tensorized.formats import mpo, tt
    >>> found = halves(mpo((4, 4, 4, 4), (5, 5, 5, 5)))
    >>> found.left, found.right, found.outs, found.ins
    ((0, 1), (2, 3), (16, 16), (25, 25))
    >>> halves(tt((4, 4), (4, 4))).ins
    (16, 1)
    """

    def cost(one: Halves) -> tuple[int, int]:
        narrow = 1 < one.columns < WIDE
        return min(one.costs) * (2 if narrow else 1), one.entries

    return min(cuts(graph), key=cost)


def _first(legs: Names, held: set[str]) -> bool:
    """Whether those of the legs that are held come before all others."""
    inside = [leg in held for leg in legs]
    return inside == sorted(inside, reverse=True)


def shared(matrix: Tensor, x: Tensor) -> Tensor:
    """Multiply all matrices of a batch (batch, k, columns) by one matrix (rows, k), on the left."""
    if x.shape[2] < WIDE:
        return nn.functional.linear(x.mT, matrix).mT.contiguous()
    if torch.is_grad_enabled() and (matrix.requires_grad or x.requires_grad):
        found: Tensor = _Shared.apply(matrix, x)  # type: ignore[no-untyped-call]
        return found
    return torch.bmm(matrix.expand(x.shape[0], *matrix.shape), x)


class _Shared(torch.autograd.Function):
    """A product with one matrix, whose gradient is one product, too, and not one a row."""

    generate_vmap_rule = True

    @staticmethod
    def forward(matrix: Tensor, x: Tensor) -> Tensor:
        """Multiply."""
        return torch.bmm(matrix.expand(x.shape[0], *matrix.shape), x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Save both terms."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """Pull back (batch, rows, columns)."""
        matrix, x = ctx.saved_tensors
        own = other = None
        if ctx.needs_input_grad[0]:
            own = torch.tensordot(gradient, x, dims=([0, 2], [0, 2]))  # (rows, k)
        if ctx.needs_input_grad[1]:
            other = shared(matrix.mT, gradient)
        return own, other
