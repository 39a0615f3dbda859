"""The rows that the weight of a layer multiplies, and empty moments for them."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .linear import matrix_of
from .moments import ROWS, Moments

FULL = 8192
"""Number of inputs up to which all second moments are gathered; beyond, a factor and a diagonal."""

RANK = 512
"""Rows of the factor."""

BYTES = 4 << 30
"""Memory for the moments of a model; beyond, the largest layers have factors."""


def moments_of(layer: nn.Module, factored: bool = False) -> Moments:
    """Return empty moments for the inputs of a layer: features, unfolded patches, or rows."""
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        size = layer.in_channels // layer.groups
        for length in layer.kernel_size:
            size *= length
        return Moments(size, layer.groups, rank=RANK if factored or size > FULL else None)
    if isinstance(layer, nn.Embedding):
        return Moments(layer.num_embeddings, diagonal=True)
    size = matrix_of(layer).shape[1]
    return Moments(size, rank=RANK if factored or size > FULL else None)


def add_inputs(moments: Moments, layer: nn.Module, x: Tensor) -> None:
    """Add what a layer was called with."""
    if x.is_nested:  # of torch's encoders, which leave padding out
        for part in x.unbind():
            add_inputs(moments, layer, part)
    elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        for rows in _patch_rows(layer, x):
            moments.add(rows)
    elif isinstance(layer, nn.Embedding):
        moments.count(x)
    else:
        moments.add(x)


def rows_of(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the rows that the weight of a dense layer multiplies: (rows, groups * size)."""
    if x.is_nested:
        return torch.cat([rows_of(layer, part) for part in x.unbind()])
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return torch.cat(list(_patch_rows(layer, x)))
    return x.reshape(-1, x.shape[-1])


def _patch_rows(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Iterator[Tensor]:
    """Unfold a batch, or a sample, some samples at once."""
    samples = x.reshape(-1, *x.shape[-len(layer.kernel_size) - 1 :])
    at_once = max(1, ROWS // max(1, samples.shape[2:].numel()))
    for some in samples.split(at_once):
        yield patches(layer, some)


def patches(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """Unfold samples (samples, channels, ...) to the patches that a convolution sees.

    Returns
    -------
    Tensor
        (samples * places, channels * kernel), channels slowest: groups are contiguous.
    """
    padding = layer._reversed_padding_repeated_twice
    if any(padding):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = nn.functional.pad(x, padding, mode=mode)
    for axis, (length, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ):
        reach = dilation * (length - 1) + 1
        x = x.unfold(2 + axis, reach, stride)[..., ::dilation]
    dims = len(layer.kernel_size)
    order = (0, *range(2, dims + 2), 1, *range(dims + 2, 2 * dims + 2))
    x = x.permute(order)  # (samples, places..., channels, kernel...)
    return x.reshape(-1, x.shape[dims + 1 :].numel())
