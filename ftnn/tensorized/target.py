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

from ..arrays.contraction import contract
from .graph import Graph, Names

RIDGE = 1e-6
"""Added to the second moments, relative to their mean: inputs that are zero keep a weight."""

FLOOR = 1e-6
"""Least eigenvalue of the moments of a leg, relative to their mean, when they are inverted."""

PRIME = "'"


@dataclass(frozen=True, eq=False)
class Target:
    """A weight as a tensor of legs, and its metric.

    Parameters
    ----------
    weight : Tensor
        Axes are the legs of the graph, outputs first; in double precision.
    graph : Graph
    moments : Tensor or None
        None for the identity; or with axes ``shared``, inputs, and for a full matrix the inputs
        once more. Ridge included.
    shared : tuple of str
        Output legs on which the moments depend: the groups of a convolution.
    """

    weight: Tensor
    graph: Graph
    moments: Tensor | None
    shared: Names = ()

    @property
    def is_full(self) -> bool:
        """Whether the second moments are a matrix."""
        return self.moments is not None and self.moments.ndim > len(self.shared) + len(
            self.graph.in_legs
        )

    @property
    def metric(self) -> tuple[list[Tensor], list[Names]]:
        """The moments as a term of a contraction: none, a diagonal, or inputs and primed inputs."""
        if self.moments is None:
            return [], []
        primed = tuple(leg + PRIME for leg in self.graph.in_legs) if self.is_full else ()
        return [self.moments], [(*self.shared, *self.graph.in_legs, *primed)]

    def measured(self, weight: Tensor) -> Tensor:
        r"""Return :math:`W \Sigma`, with the axes of the weight."""
        if self.moments is None:
            return weight
        legs = self.graph.legs
        arrays, names = self.metric
        rows = tuple(
            leg + PRIME if self.is_full and leg in self.graph.in_legs else leg for leg in legs
        )
        return contract([weight, *arrays], [rows, *names], legs)

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
            values, vectors = torch.linalg.eigh(self.marginal(leg))
            roots = values.clamp(min=FLOOR).sqrt()
            names = tuple(leg + PRIME if name == leg else name for name in legs)
            root = (vectors * roots) @ vectors.T
            weight = contract([weight, root], [names, (leg + PRIME, leg)], legs)
            inverses[leg] = (vectors / roots) @ vectors.T
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

    def error(self, cores: list[Tensor]) -> float:
        """Return the relative error of a weight of cores, in the metric."""
        gap = self.weight - self.dense(cores)
        square = float((gap * self.measured(gap)).sum())
        return (max(square, 0.0) / self.square) ** 0.5 if self.square else 0.0

    def marginal(self, leg: str) -> Tensor:
        """Return the second moments of one input leg, summed over the others; their mean is 1."""
        size = self.graph.sizes[leg]
        if self.moments is None:
            return torch.eye(size, dtype=self.weight.dtype, device=self.weight.device)
        arrays, names = self.metric
        if not self.is_full:
            found = torch.diag(contract(arrays, names, (leg,)))
        else:
            others = {other + PRIME: other for other in self.graph.in_legs if other != leg}
            terms = [tuple(others.get(name, name) for name in names[0])]
            found = contract(arrays, terms, (leg, leg + PRIME))
        return found * (size / found.trace().clamp(min=torch.finfo(found.dtype).tiny))


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u, s, vh


def target_of(
    weight: Tensor, graph: Graph, moments: Tensor | None = None, shared: Names = ()
) -> Target:
    """Pad a matrix to the dimensions of a graph, and give it a metric.

    Parameters
    ----------
    weight : Tensor
        (out, in); at most as many rows and columns as the graph has.
    graph : Graph
    moments : Tensor or None
        Second moments of the inputs, (in, in), or their diagonal (in,); with an axis of groups
        before if there are shared legs.
    shared : tuple of str
        Output legs of the groups.
    """
    outs, ins = (
        tuple(graph.sizes[leg] for leg in legs) for legs in (graph.out_legs, graph.in_legs)
    )
    weight = weight.detach().double()
    padded = weight.new_zeros(prod(outs), prod(ins))
    padded[: weight.shape[0], : weight.shape[1]] = weight
    metric = None
    if moments is not None:
        metric = _padded(moments.detach().to(padded), prod(ins), len(shared))
        groups = tuple(graph.sizes[leg] for leg in shared)
        full = metric.ndim > len(shared) + 1
        metric = metric.reshape(*groups, *ins, *(ins if full else ()))
    return Target(padded.reshape(*outs, *ins), graph, metric, () if metric is None else shared)


def _padded(moments: Tensor, size: int, groups: int) -> Tensor:
    """Pad second moments, and add the ridge, so that every input counts."""
    full = moments.ndim == groups + 2
    here = moments.shape[-1]
    values = moments.diagonal(dim1=-2, dim2=-1) if full else moments
    mean = values.mean()
    ridge = RIDGE * mean if mean > 0 else torch.ones_like(mean)
    out = moments.new_zeros(*moments.shape[:groups], *((size,) * (2 if full else 1)))
    if full:
        out[..., :here, :here] = moments
        out.diagonal(dim1=-2, dim2=-1).add_(ridge)
    else:
        out[..., :here] = moments
        out += ridge
    return out
