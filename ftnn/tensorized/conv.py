"""Convolutions whose kernel is a network of cores, applied as a sequence of small convolutions."""

from collections.abc import Callable
from math import prod
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..arrays.contraction import contract
from .checks import checked_metric, checked_weight
from .decompose import Decomposition, Ranks, decompose
from .factored import Factored
from .graph import Names
from .kernels import Dims, channel_dims, kernel_graph, kernels
from .module import TensorizedModule
from .moments import Moments
from .plans import multiply


class _Conv(TensorizedModule):
    """What convolutions in one, two and three dimensions share."""

    dense: ClassVar[Any]
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    padding_mode: str
    _pads: list[int]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | str | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        format: str = "tucker",
        dims: Dims | None = None,
        ranks: Ranks = 8,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        like = self.dense(  # torch checks the arguments, and completes them
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, False,
            padding_mode, device="meta",
        )  # fmt: skip
        inputs = in_channels // groups * prod(like.kernel_size)
        graph = kernel_graph(format, like, dims)
        super().__init__(format, graph, out_channels, inputs)
        for name in _SETTINGS:
            setattr(self, name, getattr(like, name))
        self._pads = like._reversed_padding_repeated_twice
        empty = torch.empty(0, device=device, dtype=dtype)
        self._init_cores(graph, ranks, 1 / (3 * inputs), empty)
        self._init_bias(bias, device, dtype)

    @classmethod
    def from_dense(
        cls,
        layer: nn.Conv1d | nn.Conv2d | nn.Conv3d,
        format: str = "tucker",
        dims: Dims | None = None,
        ranks: Ranks | None = None,
        params: int | None = None,
        rtol: float | None = None,
        moments: Tensor | Factored | Moments | None = None,
        mean: Tensor | None = None,
        sites: Literal[1, 2] = 1,
    ) -> Self:
        """Approximate a trained convolution; without ranks, params and rtol, exactly.

        Parameters
        ----------
        layer : torch.nn.Conv1d, Conv2d or Conv3d
        format, dims : optional
            See the class.
        ranks, params, rtol : optional
            As of :meth:`ftnn.tensorized.Linear.from_dense`.
        moments : Moments, Tensor or Factored, optional
            Of the patches, with n = in_channels / groups * kernel inputs, of every group; or second
            moments, (n, n) or (n,), with an axis of groups before if there are several.
        mean : Tensor, optional
            Mean of the patches, likewise (n,).

        sites : {1, 2}
            Whether sweeps over pairs of neighbouring cores, of formats that are trees, come before
            the last ones over single cores; longer, and seldom better by a percent.

        Raises
        ------
        TypeError, ValueError
        """
        if type(layer) is not cls.dense:
            raise TypeError(
                f"layer is {type(layer).__name__}, expected torch.nn.{cls.dense.__name__}"
            )
        weight = checked_weight(layer.weight.detach().flatten(1), "the convolution")
        graph = kernel_graph(format, layer, dims)
        own, mean = checked_metric(moments, mean, layer.bias, weight.shape[1], layer.groups)
        shared = graph.out_legs[:1] if layer.groups > 1 else ()
        found = decompose(weight, graph, own, shared, ranks, params, rtol, sites=sites)
        return cls.from_cores(layer, format, found, mean)

    @classmethod
    def from_cores(
        cls,
        layer: nn.Conv1d | nn.Conv2d | nn.Conv3d,
        format: str,
        found: Decomposition,
        mean: Tensor | None = None,
    ) -> Self:
        """Make a layer of cores that approximate a dense one; a mean patch corrects the bias."""
        with torch.device("meta"):
            new = cls(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,
                layer.padding, layer.dilation, layer.groups, layer.bias is not None,
                layer.padding_mode, format, channel_dims(found.graph, layer), 1,
            )  # fmt: skip
        weight = layer.weight.detach().flatten(1)
        return new.take(found, weight, layer.bias, mean).like(layer)

    @property
    def weight(self) -> Tensor:
        """The dense kernel, in the layout of torch; contracted anew, and differentiable."""
        return self._kernel(self.matrix())

    def to_dense(self) -> nn.Module:
        """Return a dense convolution of the same function."""
        with torch.no_grad():
            weight = self._kernel(self.matrix())
        new = self.dense(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding,
            self.dilation, self.groups, self.bias is not None, self.padding_mode, device="meta",
        )  # fmt: skip
        self._into(new, weight)
        return new

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, in, ...), or a single one (in, ...), to images."""
        dims = len(self.kernel_size)
        if x.ndim not in (dims + 1, dims + 2) or x.shape[-dims - 1] != self.in_channels:
            raise ValueError(
                f"inputs have shape {tuple(x.shape)}, expected (batch, {self.in_channels}, "
                f"{', '.join(['size'] * dims)})"
            )
        batched = x if x.ndim == dims + 2 else x[None]
        y = multiply(self, batched, self.bias)
        return y if x.ndim == dims + 2 else y[0]

    @property
    def dims(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Factors of the outputs and of the channels of one group."""
        return channel_dims(self.graph, self)

    # ---- ways to multiply ------------------------------------------------------------------------

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        """Ways to multiply: groups have no sequence of convolutions."""
        return ("dense", "cores") if self.groups == 1 else ("dense",)

    def input_shape(self, batch: int | tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a batch of images."""
        if isinstance(batch, int):
            raise ValueError(
                f"batch is {batch}, expected the shape of the inputs, "
                f"(batch, {self.in_channels}, ...)"
            )
        return tuple(batch)

    def product(
        self, kind: str, x: Tensor, arrays: list[Tensor], names: list[Names], bias: Tensor | None
    ) -> Tensor:
        """Convolve images (batch, in, ...) with what is contracted of the kernel."""
        dims = len(self.kernel_size)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        x = nn.functional.pad(x, self._pads, mode=mode) if any(self._pads) else x
        if kind == "dense":
            kernel = self._kernel(arrays[0])
            convolve = _CONVOLVE[dims]
            return convolve(x, kernel, bias, self.stride, 0, self.dilation, self.groups)
        y = self._by_pairs(x, arrays, names) if self.format == "mpo" else self._sequence(x, arrays)
        return y if bias is None else y + bias.reshape(-1, *(1,) * dims)

    def contracted(self, kind: str) -> tuple[list[Tensor], list[Names]]:
        """Contract the cores to kernels, in the order in which they are applied."""
        if kind == "dense":
            return super().contracted(kind)
        if self.format == "mpo":
            return [self.cores[0].movedim(-1, 0)[:, None], *self.cores[1:]], [*self.graph.cores[1:]]
        channels = self.in_channels, self.out_channels
        return kernels(self.graph, list(self.cores), self.kernel_size, channels), []

    def _sequence(self, x: Tensor, arrays: list[Tensor]) -> Tensor:
        """Channels to ranks, along the axes of the kernel, ranks to channels."""
        dims = len(self.kernel_size)
        convolve = _CONVOLVE[dims]
        first, *middle, last = arrays
        y = convolve(x, first)
        for n, taps in enumerate(middle):
            here = [len(middle) == 1 or k == n for k in range(dims)]
            stride, dilation = (
                tuple(value if own else 1 for value, own in zip(values, here, strict=True))
                for values in (self.stride, self.dilation)
            )
            apart = len(taps) if self.format == "cp" else 1
            y = convolve(y, taps, None, stride, 0, dilation, apart)
        return convolve(y, last)

    def _by_pairs(self, x: Tensor, arrays: list[Tensor], names: list[Names]) -> Tensor:
        """Convolve every channel with the taps of the kernel, then contract the channels."""
        (outs, ins), dims = self.dims, len(self.kernel_size)
        ahead = x.shape[: -dims - 1]
        if prod(ins) > self.in_channels:
            x = nn.functional.pad(x, (*(0, 0) * dims, 0, prod(ins) - self.in_channels))
        taps, *cores = arrays
        x = x.reshape(-1, 1, *x.shape[-dims:])  # (batch in, 1, ...)
        y = _CONVOLVE[dims](x, taps, None, self.stride, 0, self.dilation)
        places = y.shape[2:]
        y = contract(
            [y.reshape(-1, *ins, len(taps), prod(places)), *cores],
            [("samples", *self.graph.in_legs[:-dims], "r0", "places"), *names],
            ("samples", *self.graph.out_legs, "places"),
        )
        y = y.reshape(-1, prod(outs), *places)[:, : self.out_channels]
        return y.reshape(*ahead, self.out_channels, *places)

    def _kernel(self, matrix: Tensor) -> Tensor:
        """Return a matrix as the kernel that torch expects."""
        return matrix.reshape(-1, self.in_channels // self.groups, *self.kernel_size)

    def stores_much(self, kind: str, shape: tuple[int, ...]) -> bool:
        """Whether intermediates of the backward pass have more entries than inputs and outputs."""
        ratio = prod(shape[2:]) * shape[0] * max(self.ranks, default=1)
        if self.format == "mpo":  # the taps of every channel
            ratio = prod(shape) * self.graph.sizes["r0"]
        return kind != "dense" and ratio > 4 * prod(shape) + self._rows * self._columns

    def extra_repr(self) -> str:
        """Describe the convolution."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, dilation={self.dilation}, "
            f"groups={self.groups}, format={self.format!r}, dims={self.dims}, ranks={self.ranks}"
        )


_SETTINGS = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
)
_CONVOLVE: dict[int, Callable[..., Tensor]] = {
    1: nn.functional.conv1d,
    2: nn.functional.conv2d,
    3: nn.functional.conv3d,
}


class Conv1d(_Conv):
    """A drop-in for ``torch.nn.Conv1d`` whose kernel is a network of cores.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As of ``torch.nn.Conv1d``.
    format : {"tucker", "cp", "tt", "mpo"}
        Factors for both kinds of channels and a core between them; a sum of outer products; a
        chain from input channels over the axes of the kernel to the outputs; a chain of the kernel
        and of cores with an output and an input each (Garipov et al., arXiv:1611.03214).
    dims : (out_dims, in_dims), optional
        Factors of the channels of one group, or of somewhat larger numbers.
    ranks : int, sequence or mapping of int
    device, dtype : optional
    """

    dense = nn.Conv1d


class Conv2d(_Conv):
    """A drop-in for ``torch.nn.Conv2d`` whose kernel is a network of cores.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As of ``torch.nn.Conv2d``.
    format : {"tucker", "cp", "tt", "mpo"}
        Factors for both kinds of channels and a core between them; a sum of outer products; a
        chain from input channels over the axes of the kernel to the outputs; a chain of the kernel
        and of cores with an output and an input each (Garipov et al., arXiv:1611.03214).
    dims : (out_dims, in_dims), optional
        Factors of the channels of one group, or of somewhat larger numbers.
    ranks : int, sequence or mapping of int
    device, dtype : optional

    Examples
    --------
    >>> import torch, ftnn
    >>> dense = torch.nn.Conv2d(16, 32, 3, padding=1)
    >>> layer = ftnn.tensorized.Conv2d.from_dense(dense, "tucker", ranks=8)
    >>> layer(torch.zeros(2, 16, 9, 9)).shape, layer.num_params
    (torch.Size([2, 32, 9, 9]), 992)
    >>> layer = ftnn.tensorized.Conv2d.from_dense(dense, "mpo", ((8, 4), (4, 4)), ranks=8)
    >>> layer.dims, [tuple(core.shape) for core in layer.cores]
    (((8, 4), (4, 4)), [(3, 3, 8), (8, 8, 4, 8), (8, 4, 4)])
    """

    dense = nn.Conv2d


class Conv3d(_Conv):
    """A drop-in for ``torch.nn.Conv3d`` whose kernel is a network of cores.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As of ``torch.nn.Conv3d``.
    format : {"tucker", "cp", "tt", "mpo"}
        Factors for both kinds of channels and a core between them; a sum of outer products; a
        chain from input channels over the axes of the kernel to the outputs; a chain of the kernel
        and of cores with an output and an input each (Garipov et al., arXiv:1611.03214).
    dims : (out_dims, in_dims), optional
        Factors of the channels of one group, or of somewhat larger numbers.
    ranks : int, sequence or mapping of int
    device, dtype : optional
    """

    dense = nn.Conv3d
