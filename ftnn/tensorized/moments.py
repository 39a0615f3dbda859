"""Second moments of the inputs of a layer, gathered batch by batch."""

import torch
from torch import Tensor, nn

from .linear import matrix_of

FULL = 8192
"""Number of inputs up to which all second moments are gathered; beyond, their diagonal."""

ROWS = 8192
"""Rows that are multiplied at once: patches of images are many."""


class Moments:
    r"""Means of :math:`x x^T`, or of its diagonal, and of x, over all rows so far.

    Parameters
    ----------
    size : int
        Number of inputs, of one group.
    groups : int
    diagonal : bool

    Examples
    --------
    >>> import torch
    >>> moments = Moments(3)
    >>> moments.add(torch.eye(3)); moments.add(torch.ones(1, 3))
    >>> moments.second()
    tensor([[0.5000, 0.2500, 0.2500],
            [0.2500, 0.5000, 0.2500],
            [0.2500, 0.2500, 0.5000]], dtype=torch.float64)
    """

    def __init__(self, size: int, groups: int = 1, diagonal: bool = False):
        self.size, self.groups, self.diagonal = size, groups, diagonal
        self.rows = 0
        self._sum: Tensor | None = None
        self._first: Tensor | None = None

    def add(self, x: Tensor) -> None:
        """Add rows (..., groups * size).

        Raises
        ------
        ValueError
            If they have another size, or values that are not finite.
        """
        if x.shape[-1] != self.groups * self.size:
            raise ValueError(
                f"rows have shape {tuple(x.shape)}, expected (..., {self.groups * self.size})"
            )
        rows = x.detach().reshape(-1, self.groups, self.size)
        for part in rows.split(ROWS):
            self._add(part.float() if part.dtype in (torch.float16, torch.bfloat16) else part)

    def _add(self, part: Tensor) -> None:
        columns = part.transpose(0, 1)  # (groups, rows, size)
        new = columns.square().sum(1) if self.diagonal else columns.mT @ columns
        if not torch.isfinite(new).all():
            raise ValueError(
                "inputs have values that are not finite; check the calibration batches"
            )
        first = columns.sum(1)
        self._sum = new.double() if self._sum is None else self._sum + new
        self._first = first.double() if self._first is None else self._first + first
        self.rows += len(part)

    def count(self, indices: Tensor) -> None:
        """Add rows that are unit vectors, given by the positions of their ones."""
        counts = torch.bincount(indices.detach().reshape(-1), minlength=self.size).double()[None]
        self._sum = counts if self._sum is None else self._sum + counts
        self.rows += indices.numel()

    def second(self) -> Tensor:
        """Return the means of products or squares: (size, size) or (size,), after any groups."""
        return self._mean(self._sum)

    def first(self) -> Tensor:
        """Return the mean of the inputs, (size,), after any groups."""
        return self._mean(self._first)

    def _mean(self, total: Tensor | None) -> Tensor:
        if total is None or not self.rows:
            raise ValueError("no rows were added; the calibration set is empty")
        found = total / self.rows
        return found if self.groups > 1 else found[0]


def moments_of(layer: nn.Module) -> Moments:
    """Return empty moments for the inputs of a layer: features, unfolded patches, or rows."""
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        size = layer.in_channels // layer.groups
        for length in layer.kernel_size:
            size *= length
        return Moments(size, layer.groups, diagonal=size > FULL)
    if isinstance(layer, nn.Embedding):
        return Moments(layer.num_embeddings, diagonal=True)
    size = matrix_of(layer).shape[1]
    return Moments(size, diagonal=size > FULL)


def add_inputs(moments: Moments, layer: nn.Module, x: Tensor) -> None:
    """Add what a layer was called with."""
    if x.is_nested:  # of torch's encoders, which leave padding out
        for part in x.unbind():
            add_inputs(moments, layer, part)
    elif isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        for sample in x.reshape(-1, *x.shape[-len(layer.kernel_size) - 1 :]):
            moments.add(patches(layer, sample))
    elif isinstance(layer, nn.Embedding):
        moments.count(x)
    else:
        moments.add(x)


def rows_of(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the rows that the weight of a dense layer multiplies: (rows, groups * size)."""
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        samples = x.reshape(-1, *x.shape[-len(layer.kernel_size) - 1 :])
        return torch.cat([patches(layer, sample) for sample in samples])
    return x.reshape(-1, x.shape[-1])


def patches(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, sample: Tensor) -> Tensor:
    """Unfold a sample (channels, ...) to the patches that a convolution sees.

    Returns
    -------
    Tensor
        (places, channels * kernel), channels slowest: groups are contiguous.
    """
    x = sample[None]
    padding = layer._reversed_padding_repeated_twice
    if any(padding):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        x = nn.functional.pad(x, padding, mode=mode)
    x = x[0]
    for axis, (length, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ):
        reach = dilation * (length - 1) + 1
        x = x.unfold(1 + axis, reach, stride)[..., ::dilation]
    dims = len(layer.kernel_size)
    order = (*range(1, dims + 1), 0, *range(dims + 1, 2 * dims + 1))
    x = x.permute(order)  # (places..., channels, kernel...)
    return x.reshape(-1, x.shape[dims:].numel())
