r"""What cores approximate: a weight, in the metric of the second moments of its inputs.

The error of :math:`\tilde W` is that of the outputs, over inputs of second moments
:math:`\Sigma = E[x x^T]`:

.. math:: E\,\|(W - \tilde W) x\|^2 = \mathrm{tr}\,(W - \tilde W)\,\Sigma\,(W - \tilde W)^T .

With :math:`\Sigma = 1` it is the Frobenius norm. A layer with groups has a :math:`\Sigma` for each.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..arrays.contraction import contract
from .factored import Factored
from .graph import Graph, Names

RIDGE = 1e-6
"""Added to the second moments, relative to their mean: inputs that are zero keep a weight."""

FLOOR = 1e-6
"""Least eigenvalue of the moments of a leg, relative to their mean, when they are inverted."""

PRIME = "'"

ROWS = "rows"
"""Name of the rows of factored moments."""

Summand = tuple[list[Tensor], list[Names]]
"""Arrays and their names."""


@dataclass(frozen=True, eq=False)
class Target:
    """A weight as a tensor of legs, and its metric.

    Parameters
    ----------
    weight : Tensor
        Axes are the legs of the graph, outputs first; in double precision.
    graph : Graph
    moments : Tensor, Factored or None
        None for the identity; or with axes ``shared``, inputs, and for a full matrix the inputs
        once more. Of a factor, the rows are the axis before the inputs. Ridge included.
    shared : tuple of str
        Output legs on which the moments depend: the groups of a convolution.
    rows : tuple of int or None
        Number of groups, and of their outputs that are not padding; None for all.
    """

    weight: Tensor
    graph: Graph
    moments: Tensor | Factored | None
    shared: Names = ()
    rows: tuple[int, int] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the second moments couple inputs."""
        return any(self.couples(names) for _, names in self.metric)

    @cached_property
    def metric(self) -> list[Summand]:
        """The moments as a sum of networks: diagonal in the inputs, or of inputs and primed ones.

        None for the identity.
        """
        if self.moments is None:
            return []
        ins = self.graph.in_legs
        primed = tuple(leg + PRIME for leg in ins)
        if isinstance(self.moments, Factored):
            factor = self.moments.factor
            rows = [(*self.shared, ROWS, *names) for names in (ins, primed)]
            return [([self.moments.diagonal], [(*self.shared, *ins)]), ([factor, factor], rows)]
        full = self.moments.ndim > len(self.shared) + len(ins)
        return [([self.moments], [(*self.shared, *ins, *(primed if full else ()))])]

    def couples(self, names: list[Names]) -> bool:
        """Whether a summand of the metric is not diagonal in the inputs."""
        return any(leg + PRIME in term for term in names for leg in self.graph.in_legs)

    def measured(self, weight: Tensor) -> Tensor:
        r"""Return :math:`W \Sigma`, with the axes of the weight."""
        if self.moments is None:
            return weight
        legs = self.graph.legs
        found = torch.zeros_like(weight)
        for arrays, names in self.metric:
            couples = self.couples(names)
            rows = tuple(
                leg + PRIME if couples and leg in self.graph.in_legs else leg for leg in legs
            )
            found += contract([weight, *arrays], [rows, *names], legs)
        return found

    @cached_property
    def weighted(self) -> Tensor:
        r""":math:`W \Sigma`."""
        return self.measured(self.weight)

    @cached_property
    def square(self) -> float:
        """Squared norm of the weight in the metric."""
        return float((self.weight * self.weighted).sum())

    def at(self, graph: Graph) -> "Target":
        """Return the same weight and metric for other ranks; what was computed of them stays."""
        new = replace(self, graph=graph)
        new.__dict__["_decomposed"] = self._decomposed
        for name in ("weighted", "square", "whitened", "spectra"):
            if name in self.__dict__:
                new.__dict__[name] = self.__dict__[name]
        return new

    @cached_property
    def whitened(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The weight times square roots of the moments of every input leg, and their inverses.

        The product of these moments is the closest metric in which singular values along a tree
        are those of an approximation; with one input leg it is the metric.
        """
        weight = self.weight
        inverses: dict[str, Tensor] = {}
        if self.moments is None:
            return weight, inverses
        legs = self.graph.legs
        for leg in self.graph.in_legs:
            root, inverses[leg] = _root(self.marginal(leg))
            names = tuple(leg + PRIME if name == leg else name for name in legs)
            weight = contract([weight, root], [names, (leg + PRIME, leg)], legs)
        return weight, inverses

    @cached_property
    def spectra(self) -> dict[str, Tensor]:
        """Singular values of the whitened weight at every bond of a tree."""
        weight, found = self.whitened[0], {}
        graph = self.graph
        for bond in graph.bonds:
            here = graph.legs_behind(bond)
            there = tuple(leg for leg in graph.legs if leg not in here)
            rows = contract([weight], [graph.legs], (*here, *there))
            rows = rows.reshape(prod(graph.sizes[leg] for leg in here), -1)
            small = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
            found[bond] = torch.linalg.eigvalsh(small).flip(0).clamp(min=0).sqrt()
        return found

    @cached_property
    def _decomposed(self) -> dict[Hashable, tuple[Tensor, Tensor, Tensor]]:
        return {}

    def decomposed(self, key: Hashable, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the singular value decomposition of a matrix, once for a key other than None."""
        if key is None:
            return _svd(matrix)
        if key not in self._decomposed:
            self._decomposed[key] = _svd(matrix)
        return self._decomposed[key]

    def dense(self, cores: list[Tensor]) -> Tensor:
        """Contract cores to a weight."""
        return contract(cores, list(self.graph.cores), self.graph.legs)

    def error(self, cores: list[Tensor], proper: bool = False) -> float:
        """Return the relative error of a weight of cores, in the metric; or without padded rows."""
        gap = self.weight - self.dense(cores)
        if proper and self.rows is not None:
            groups, rows = self.rows
            ins = prod(self.graph.sizes[leg] for leg in self.graph.in_legs)
            by_rows = gap.reshape(groups, -1, ins)
            by_rows[:, rows:] = 0.0
            gap = by_rows.reshape(gap.shape)
        square = float((gap * self.measured(gap)).sum())
        return (max(square, 0.0) / self.square) ** 0.5 if self.square else 0.0

    def marginal(self, leg: str) -> Tensor:
        """Return the second moments of one input leg, summed over the others; their mean is 1."""
        size = self.graph.sizes[leg]
        if self.moments is None:
            return torch.eye(size, dtype=self.weight.dtype, device=self.weight.device)
        found = torch.zeros(size, size, dtype=self.weight.dtype, device=self.weight.device)
        for arrays, names in self.metric:
            if self.couples(names):
                others = {other + PRIME: other for other in self.graph.in_legs if other != leg}
                terms = [tuple(others.get(name, name) for name in term) for term in names]
                found += contract(arrays, terms, (leg, leg + PRIME))
            else:
                found += torch.diag(contract(arrays, names, (leg,)))
        return found * (size / found.trace().clamp(min=torch.finfo(found.dtype).tiny))


def _root(moments: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return a matrix R with :math:`R R^T = \Sigma`, and its inverse."""
    root, failed = torch.linalg.cholesky_ex(moments)
    if not failed and root.diagonal().min() ** 2 >= FLOOR / 10:
        eye = torch.eye(len(root), dtype=root.dtype, device=root.device)
        return root, torch.linalg.solve_triangular(root, eye, upper=False)
    values, vectors = torch.linalg.eigh(moments)
    roots = values.clamp(min=FLOOR).sqrt()
    return (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u, s, vh


def target_of(
    weight: Tensor, graph: Graph, moments: Tensor | Factored | None = None, shared: Names = ()
) -> Target:
    """Pad a matrix to the dimensions of a graph, and give it a metric.

    Parameters
    ----------
    weight : Tensor
        (out, in); at most as many rows, of every group, and columns as the graph has.
    graph : Graph
    moments : Tensor, Factored or None
        Second moments of the inputs, (in, in), or their diagonal (in,); with an axis of groups
        before if there are shared legs.
    shared : tuple of str
        Output legs of the groups.
    """
    outs, ins = (
        tuple(graph.sizes[leg] for leg in legs) for legs in (graph.out_legs, graph.in_legs)
    )
    groups = tuple(graph.sizes[leg] for leg in shared)
    weight = weight.detach().double().reshape(prod(groups), -1, weight.shape[1])
    rows, most = weight.shape[1], prod(outs) // prod(groups)
    weight = pad(weight, (0, prod(ins) - weight.shape[2], 0, most - rows)).reshape(*outs, *ins)
    kept = (prod(groups), rows) if rows < most else None
    if moments is None:
        return Target(weight, graph, None, rows=kept)
    if isinstance(moments, Factored):
        diagonal, factor = (part.detach().to(weight) for part in (moments.diagonal, moments.factor))
        gap = prod(ins) - diagonal.shape[-1]
        diagonal = pad(diagonal, (0, gap)) + _ridge(moments.squares().to(weight))
        factor = pad(factor, (0, gap)).reshape(*groups, factor.shape[-2], *ins)
        metric: Tensor | Factored = Factored(diagonal.reshape(*groups, *ins), factor)
    else:
        moments = moments.detach().to(weight)
        if moments.ndim == len(groups) + 1:
            values = pad(moments, (0, prod(ins) - moments.shape[-1])) + _ridge(moments)
            metric = values.reshape(*groups, *ins)
        else:
            gap = prod(ins) - moments.shape[-1]
            values = pad(moments, (0, gap, 0, gap))
            values.diagonal(dim1=-2, dim2=-1).add_(_ridge(moments.diagonal(dim1=-2, dim2=-1)))
            metric = values.reshape(*groups, *ins, *ins)
    return Target(weight, graph, metric, shared, kept)


def _ridge(squares: Tensor) -> Tensor:
    """Return what is added to the second moments of every input, so that each counts."""
    mean = squares.mean()
    return RIDGE * mean if mean > 0 else torch.ones_like(mean)
