"""Tables of embeddings as networks of cores."""

from collections.abc import Sequence
from math import prod
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ..arrays.contraction import contract
from .checks import checked_metric, checked_weight
from .decompose import Decomposition, Ranks, decompose
from .dims import check_dims, factors
from .factored import Factored
from .formats import EMBEDDING, check_format
from .graph import Graph, Names
from .linear import graph_dims
from .module import TensorizedModule
from .moments import Moments
from .plans import multiply

SITES = 3
"""Number of factors of rows and of columns, unless dimensions are given."""


class Embedding(TensorizedModule):
    """A drop-in for ``torch.nn.Embedding`` whose table is an MPO: a row is a product of slices.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
    format : {"mpo"}
    dims : (embedding_dims, row_dims), optional
        Factors of the sizes, or of somewhat larger ones.
    ranks : int, sequence or mapping of int
    padding_idx : int, optional
        Row whose embedding is zero.
    device, dtype : optional

    Examples
    --------
    >>> import torch, ftnn
    >>> table = ftnn.tensorized.Embedding(50257, 768, ranks=16)
    >>> table(torch.tensor([[5, 50256]])).shape, table.num_params
    (torch.Size([1, 2, 768]), 90688)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        format: str = "mpo",
        dims: tuple[Sequence[int], Sequence[int]] | None = None,
        ranks: Ranks = 8,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        graph = table_graph(format, dims, embedding_dim, num_embeddings)
        super().__init__(format, graph, embedding_dim, num_embeddings)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = padding_idx
        self._init_cores(graph, ranks, 1.0, torch.empty(0, device=device, dtype=dtype))

    @classmethod
    def from_dense(
        cls,
        layer: nn.Embedding,
        format: str = "mpo",
        dims: tuple[Sequence[int], Sequence[int]] | None = None,
        ranks: Ranks | None = None,
        params: int | None = None,
        rtol: float | None = None,
        moments: Tensor | Factored | Moments | None = None,
        sites: Literal[1, 2] = 1,
    ) -> Self:
        """Approximate a trained table; without ranks, params and rtol, exactly.

        Parameters
        ----------
        layer : torch.nn.Embedding
        format, dims, ranks, params, rtol : optional
            As of :meth:`ftnn.tensorized.Linear.from_dense`.
        moments : Moments or Tensor, optional
            Frequencies of the rows, (num_embeddings,).

        sites : {1, 2}
            Whether sweeps over pairs of neighbouring cores, of formats that are trees, come before
            the last ones over single cores; longer, and seldom better by a percent.

        Raises
        ------
        TypeError, ValueError
        """
        if not isinstance(layer, nn.Embedding):
            raise TypeError(f"layer is {type(layer).__name__}, expected torch.nn.Embedding")
        if layer.max_norm is not None:
            raise ValueError(
                f"max_norm is {layer.max_norm}, but a table of cores has no norms to clip; use None"
            )
        weight = checked_weight(layer.weight.detach().T, "the table")
        own, _ = checked_metric(moments, None, None, layer.num_embeddings)
        graph = table_graph(format, dims, *weight.shape)
        found = decompose(weight, graph, own, ranks=ranks, params=params, rtol=rtol, sites=sites)
        return cls.from_cores(layer, format, found)

    @classmethod
    def from_cores(
        cls, layer: nn.Embedding, format: str, found: Decomposition, mean: Tensor | None = None
    ) -> Self:
        """Make a table of cores that approximate a dense one; it has no bias to correct."""
        padding = layer.padding_idx
        if padding is not None and layer.weight[padding].any():
            padding = None  # a row as any other: torch only leaves it out of the gradient
        with torch.device("meta"):
            shape = layer.num_embeddings, layer.embedding_dim
            new = cls(*shape, format, graph_dims(found.graph), 1, padding)
        return new.take(found, layer.weight.detach().T).like(layer)

    @property
    def weight(self) -> Tensor:
        """The dense table, in the layout of torch; contracted anew, and differentiable."""
        return self.matrix().T

    def to_dense(self) -> nn.Embedding:
        """Return a ``torch.nn.Embedding`` of the same function."""
        with torch.no_grad():
            weight = self.matrix().T.clone()
        if self.padding_idx is not None:
            weight[self.padding_idx] = 0
        shape = self.num_embeddings, self.embedding_dim
        new = nn.Embedding(*shape, self.padding_idx, device="meta")
        new.weight = nn.Parameter(weight)
        return new.train(self.training)

    def forward(self, indices: Tensor) -> Tensor:
        """Map rows (...) to embeddings (..., embedding_dim)."""
        flat = indices.reshape(-1)
        compiled = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if flat.numel() and not compiled:  # a compiled table looks rows up densely: torch checks
            low, high = (int(x) for x in torch.aminmax(flat))
            if low < 0 or high >= self.num_embeddings:
                raise IndexError(
                    f"rows are from {low} to {high}, expected 0 to {self.num_embeddings - 1}"
                )
        y = multiply(self, flat)
        if self.padding_idx is not None:
            y = torch.where((flat == self.padding_idx)[:, None], 0, y)
        return y.reshape(*indices.shape, self.embedding_dim)

    # ---- ways to multiply ------------------------------------------------------------------------

    def input_shape(self, batch: int | tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a batch of rows."""
        return (batch,) if isinstance(batch, int) else (prod(batch),)

    def product(
        self, kind: str, x: Tensor, arrays: list[Tensor], names: list[Names], bias: Tensor | None
    ) -> Tensor:
        """Look rows (samples,) up; (samples, embedding_dim)."""
        rows = x.long()
        if kind == "dense":
            return nn.functional.embedding(rows, arrays[0].T)
        graph = self.graph
        slices, terms = [], []
        for leg in reversed(graph.in_legs):  # the last digit is the fastest
            digit, rows = rows % graph.sizes[leg], rows // graph.sizes[leg]
            n = graph.holders(leg)[0]
            axis = names[n].index(leg)
            slices.append(arrays[n].index_select(axis, digit))
            terms.append(tuple("samples" if name == leg else name for name in names[n]))
        y = contract(slices, terms, ("samples", *graph.out_legs))
        return y.reshape(len(x), -1)[:, : self.embedding_dim]

    def extra_repr(self) -> str:
        """Describe the table."""
        return (
            f"{self.num_embeddings}, {self.embedding_dim}, format={self.format!r}, "
            f"dims={self.dims}, ranks={self.ranks}, padding_idx={self.padding_idx}"
        )


def table_graph(
    format: str, dims: tuple[Sequence[int], Sequence[int]] | None, columns: int, rows: int
) -> Graph:
    """Check a format and its dimensions, and return its network."""
    check_format(format, EMBEDDING)
    if dims is None:
        dims = factors(columns, SITES), factors(rows, SITES)
    outs, ins = tuple(dims[0]), tuple(dims[1])
    check_dims(outs, columns, "embedding_dims")
    check_dims(ins, rows, "row_dims")
    if len(outs) != len(ins):
        raise ValueError(f"dims are {(outs, ins)}; give as many factors of columns as of rows")
    return EMBEDDING[format](outs, ins)
