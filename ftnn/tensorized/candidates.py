"""What a layer could become: formats and sizes, fitted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .conv import kernel_graph
from .decompose import Decomposition, fitted_at, profiles
from .embedding import table_graph
from .fit import DIRECT, fit_cores, largest_system
from .graph import Graph
from .linear import Dims, linear_graph, matrix_of
from .module import TensorizedModule
from .places import Place, weight_of
from .target import Target, target_of

SEARCH, POLISH = 3, 12
"""Most sweeps while formats and sizes are compared, and of those that are chosen."""

AUTO: dict[str, tuple[str, ...]] = {
    "Linear": ("svd", "mpo", "tt"),
    "Conv": ("tucker", "tt", "cp"),
    "Embedding": ("mpo",),
}
"""Formats that are tried; rings and trees take longer, and were not better."""

MOST_CP = 256
"""Largest rank of sums of products that are tried: their fits take as many numbers squared."""


@dataclass(eq=False)
class Candidate:
    """A layer in a format, of a size.

    Attributes
    ----------
    format : str
    target : Target
    found : Decomposition
    """

    format: str
    target: Target
    found: Decomposition

    @property
    def params(self) -> int:
        """Number of entries of the cores."""
        return self.found.graph.num_params

    def polished(self) -> "Candidate":
        """Return it after more sweeps."""
        target = self.target.at(self.found.graph)
        fitted = fit_cores(target, self.found.cores, POLISH)
        error = target.error(fitted.cores, proper=True)
        return Candidate(self.format, target, Decomposition(self.found.graph, fitted.cores, error))

    def module(self, place: Place) -> TensorizedModule:
        """Make the tensorized layer."""
        return place.kind.from_cores(place.layer, self.format, self.found, mean_of(place))


def graph_of(layer: nn.Module, format: str, dims: Dims | None = None) -> Graph:
    """Return the network of a layer in a format; kernels have the dimensions that they have."""
    if isinstance(layer, nn.Embedding):
        return table_graph(format, dims, layer.embedding_dim, layer.num_embeddings)
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return kernel_graph(format, layer, dims)
    return linear_graph(format, dims, *matrix_of(layer).shape)


def formats_for(place: Place, formats: str | Sequence[str]) -> tuple[str, ...]:
    """Return the formats to try for a layer."""
    if formats == "auto":
        name = place.kind.__name__
        return AUTO["Conv" if name.startswith("Conv") else name]
    return tuple(name for name in formats if name in place.formats)


def candidates(place: Place, formats: Sequence[str]) -> Iterator[Candidate]:
    """Fit a layer in formats, in sizes from half of the dense one, halved, to the least there are.

    Raises
    ------
    ValueError
        If its weight is not finite.
    """
    for format in formats:
        target = target_for(place, graph_of(place.layer, format))
        least, dense = least_size(target), place.weight.numel()
        halved = (dense >> n for n in range(1, dense.bit_length()))
        sizes: set[int] = set()
        for params in (*(size for size in halved if size > least), least):
            found = sized_candidate(format, target, params)
            if found is not None and found.params < dense and found.params not in sizes:
                sizes.add(found.params)
                yield found


def least_size(target: Target) -> int:
    """Return the number of entries of cores of rank 1."""
    graph = target.graph
    return graph.with_ranks(dict.fromkeys(graph.bonds, 1)).num_params


def sized_candidate(format: str, target: Target, params: int) -> Candidate | None:
    """Fit at most so many entries with few sweeps; None if the format is not worth it."""
    graphs = [graph for graph in profiles(target, params) if _is_useful(format, graph)]
    fits = []
    for graph in graphs:
        sweeps = SEARCH if largest_system(target.at(graph)) <= DIRECT else 1
        fits.append(Candidate(format, target, fitted_at(target, graph, sweeps)))
    return min(fits, key=lambda candidate: candidate.found.error, default=None)


def _is_useful(format: str, graph: Graph) -> bool:
    """Whether a network is worth its fit: no sum of very many terms, no chain of two matrices."""
    if format == "cp":
        return max(graph.ranks.values()) <= MOST_CP
    return format != "tt" or not _is_svd(graph)


def _is_svd(graph: Graph) -> bool:
    """Whether all bonds of a chain but one are full: two matrices, with more entries."""
    most = graph.most_ranks()
    return sum(rank < most[bond] for bond, rank in graph.ranks.items()) <= 1


def target_for(place: Place, graph: Graph) -> Target:
    """Return the weight of a layer in the metric of what it was called with."""
    layer, moments = place.layer, place.moments
    weight = weight_of(layer)
    if not torch.isfinite(weight).all():
        raise ValueError(f"the weight of {place.names[0]!r} has values that are not finite")
    if moments is None or not moments.rows:
        return target_of(weight, graph)
    own = moments.metric(centered=mean_of(place) is not None)
    shared = graph.out_legs[:1] if getattr(layer, "groups", 1) > 1 else ()
    return target_of(weight, graph, own, shared)


def mean_of(place: Place) -> Tensor | None:
    """Return the mean input of a layer whose bias, or normalization, can make up for it."""
    moments = place.moments
    if moments is None or not moments.rows or isinstance(place.layer, nn.Embedding):
        return None
    if getattr(place.layer, "bias", None) is None and not place.norms:
        return None
    return moments.first()
