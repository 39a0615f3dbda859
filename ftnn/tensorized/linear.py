"""Linear layers of torch whose weight is a network of cores."""

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
from .formats import LINEAR, check_format
from .graph import Graph, Names
from .halves import Halves, halves
from .module import TensorizedModule
from .moments import Moments
from .plans import multiply

Dims = tuple[Sequence[int], Sequence[int]]

SITES = {"svd": 1, "mpo": 2, "tt": 2, "ring": 3, "tree": 4}
"""Number of factors of outputs and of inputs, unless dimensions are given."""


class Linear(TensorizedModule):
    r"""A drop-in for ``torch.nn.Linear`` with :math:`W` as a network of cores: y = W x + b.

    Parameters
    ----------
    in_features, out_features : int
    format : {"svd", "mpo", "tt", "ring", "tree"}
        Two matrices; a chain with an output and an input on every core; a chain with inputs on the
        left and outputs on the right; a chain closed to a ring; a binary tree.
    dims : (out_dims, in_dims), optional
        Factors of the sizes, or of somewhat larger ones, to which the weight is padded.
    ranks : int, sequence or mapping of int
    bias : bool
    device, dtype : optional

    Raises
    ------
    ValueError
        If dims are too small, or a format or rank is none.

    Examples
    --------
    >>> import torch, ftnn
    >>> layer = ftnn.tensorized.Linear(784, 10, "mpo", ranks=4)
    >>> layer(torch.zeros(32, 5, 784)).shape, layer.dims, layer.num_params
    (torch.Size([32, 5, 10]), ((5, 2), (28, 28)), 794)

    Layers of trained weights, with at most 5000 entries:

    >>> dense = torch.nn.Linear(784, 100)
    >>> layer = ftnn.tensorized.Linear.from_dense(dense, "mpo", params=5000)
    >>> layer.ranks, layer.num_params
    ((8,), 4580)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        format: str = "mpo",
        dims: Dims | None = None,
        ranks: Ranks = 8,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            format, linear_graph(format, dims, out_features, in_features), out_features, in_features
        )
        self.in_features, self.out_features = in_features, out_features
        like = torch.empty(0, device=device, dtype=dtype)
        self._init_cores(self.graph, ranks, 1 / (3 * in_features), like)
        self._init_bias(bias, device, dtype)

    @classmethod
    def from_dense(
        cls,
        layer: nn.Linear,
        format: str = "mpo",
        dims: Dims | None = None,
        ranks: Ranks | None = None,
        params: int | None = None,
        rtol: float | None = None,
        moments: Tensor | Factored | Moments | None = None,
        mean: Tensor | None = None,
        sites: Literal[1, 2] = 1,
    ) -> Self:
        """Approximate a trained layer; without ranks, params and rtol, exactly.

        Parameters
        ----------
        layer : torch.nn.Linear
            Or a ``Conv1D`` of Hugging Face's transformers, whose weight is (in, out).
        format, dims : optional
            See the class.
        ranks : int, sequence or mapping of int, optional
        params : int, optional
            Most entries of the cores, the bias not counted.
        rtol : float, optional
            Largest relative error of the weight, in the metric of the moments.
        moments : Moments, Tensor or Factored, optional
            Of the inputs; they make the error that of the outputs. :class:`Moments` know the mean,
            and how far they are to be trusted. Or second moments, (in, in), or their diagonal,
            (in,).
        mean : Tensor, optional
            Mean of the inputs, (in,): the bias makes up for the error of the mean output, and the
            cores for what varies, if the layer has a bias.

        sites : {1, 2}
            Whether sweeps over pairs of neighbouring cores, of formats that are trees, come before
            the last ones over single cores; longer, and seldom better by a percent.

        Raises
        ------
        TypeError, ValueError
        """
        weight = checked_weight(matrix_of(layer), "the layer")
        out_features, in_features = weight.shape
        graph = linear_graph(format, dims, out_features, in_features)
        own, mean = checked_metric(moments, mean, layer.bias, in_features)
        found = decompose(weight, graph, own, ranks=ranks, params=params, rtol=rtol, sites=sites)
        return cls.from_cores(layer, format, found, mean)

    @classmethod
    def from_cores(
        cls, layer: nn.Module, format: str, found: Decomposition, mean: Tensor | None = None
    ) -> Self:
        """Make a layer of cores that approximate a dense one; a mean input corrects the bias."""
        weight, bias = matrix_of(layer), getattr(layer, "bias", None)
        out_features, in_features = weight.shape
        dims = graph_dims(found.graph)
        with torch.device("meta"):
            new = cls(in_features, out_features, format, dims, 1, bias is not None)
        return new.take(found, weight, bias, mean).like(layer)

    def to_dense(self) -> nn.Linear:
        """Return a ``torch.nn.Linear`` of the same function."""
        with torch.no_grad():
            weight = self.matrix()
        new = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        self._into(new, weight)
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (..., in) to outputs (..., out)."""
        if not x.ndim or x.shape[-1] != self.in_features:
            raise ValueError(
                f"inputs have shape {tuple(x.shape)}, expected (..., {self.in_features})"
            )
        bias = self._parameters.get("bias")  # as an attribute it takes longer
        if x.ndim == 2:
            return multiply(self, x, bias)
        y = multiply(self, x.reshape(-1, self.in_features), bias)
        return y.reshape(*x.shape[:-1], self.out_features)

    # ---- ways to multiply ------------------------------------------------------------------------

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        """Ways to multiply; a single core is the weight."""
        return ("dense", "halves", "cores") if self.graph.bonds else ("dense",)

    def input_shape(self, batch: int | tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a batch of inputs: rows, features."""
        return (batch, self.in_features) if isinstance(batch, int) else tuple(batch)

    def product(
        self, kind: str, x: Tensor, arrays: list[Tensor], names: list[Names], bias: Tensor | None
    ) -> Tensor:
        """Multiply rows (samples, in) by what is contracted of the weight; (samples, out)."""
        if kind == "dense":
            return nn.functional.linear(x, arrays[0], bias)
        outs, ins = self.dims
        if prod(ins) > self.in_features:
            x = nn.functional.pad(x, (0, prod(ins) - self.in_features))
        if kind == "halves":
            y = self.halves.multiply(x, arrays)
        else:
            graph = self.graph
            terms = [("samples", *graph.in_legs), *names]
            legs = ("samples", *graph.out_legs)
            y = contract([x.reshape(-1, *ins), *arrays], terms, legs).reshape(-1, prod(outs))
        y = y[:, : self.out_features] if prod(outs) > self.out_features else y
        return y if bias is None else y + bias

    @property
    def halves(self) -> Halves:
        """The two factors of the weight."""
        found = self.__dict__.get("_halves")
        if found is None or found[0] is not self.graph:
            found = self.__dict__["_halves"] = (self.graph, halves(self.graph))
        return found[1]

    def kept_bytes(self, kind: str) -> int:
        """Bytes that are kept of contracted weights."""
        if kind != "halves":
            return super().kept_bytes(kind)
        return self.cores[0].element_size() * self.halves.entries

    def contracted(self, kind: str) -> tuple[list[Tensor], list[Names]]:
        """Contract the cores as far as that needs no inputs."""
        if kind != "halves":
            return super().contracted(kind)
        return self.halves.factors(self.graph, list(self.cores)), []

    def extra_repr(self) -> str:
        """Describe the layer."""
        return (
            f"{self.in_features}, {self.out_features}, format={self.format!r}, dims={self.dims}, "
            f"ranks={self.ranks}, bias={self.bias is not None}"
        )


def is_transposed(layer: nn.Module) -> bool:
    """Whether a layer is the ``Conv1D`` of transformers: linear, with a weight (in, out)."""
    return type(layer).__name__ == "Conv1D" and isinstance(getattr(layer, "nf", None), int)


def matrix_of(layer: nn.Module) -> Tensor:
    """Return the weight (out, in) of a linear layer, or raise ``TypeError``."""
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and isinstance(layer, nn.Linear):
        return weight.detach()
    if isinstance(weight, Tensor) and is_transposed(layer):
        return weight.detach().T
    raise TypeError(f"layer is {type(layer).__name__}, expected torch.nn.Linear")


def graph_dims(graph: Graph) -> Dims:
    """Return the dimensions of a graph, outputs first."""
    outs = tuple(graph.sizes[leg] for leg in graph.out_legs)
    return outs, tuple(graph.sizes[leg] for leg in graph.in_legs)


def linear_graph(format: str, dims: Dims | None, out_features: int, in_features: int) -> Graph:
    """Check a format and its dimensions, and return its network."""
    check_format(format, LINEAR)
    if dims is None:
        dims = factors(out_features, SITES[format]), factors(in_features, SITES[format])
    outs, ins = tuple(dims[0]), tuple(dims[1])
    check_dims(outs, out_features, "out_dims")
    check_dims(ins, in_features, "in_dims")
    if format == "svd" and (len(outs), len(ins)) != (1, 1):
        raise ValueError(f"dims are {(outs, ins)}, but format 'svd' has one factor of each")
    if format != "tt" and len(outs) != len(ins):
        raise ValueError(
            f"dims are {(outs, ins)}, but format {format!r} has an output and an input on every "
            "core; give as many of each"
        )
    return LINEAR[format](outs, ins)
