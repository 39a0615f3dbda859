"""Kernels of convolutions as networks of cores, and as sequences of smaller kernels."""

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import Tensor, nn

from ..arrays.contraction import contract
from .dims import check_dims, exact_factors, factors
from .formats import CONV, check_format
from .graph import Graph, Names

Dims = tuple[Sequence[int], Sequence[int]]

SITES = {"mpo": 2}
"""Number of factors of outputs and of channels, unless dimensions are given; others have one."""


def kernel_graph(
    format: str, layer: "nn.Conv1d | nn.Conv2d | nn.Conv3d", dims: Dims | None = None
) -> Graph:
    """Check a format and its dimensions, and return the network of a kernel."""
    check_format(format, CONV)
    groups, count = layer.groups, SITES.get(format, 1)
    rows, columns = layer.out_channels // groups, layer.in_channels // groups
    if dims is None:  # the rows of groups follow each other: none are added between them
        split = factors if groups == 1 else exact_factors
        dims = split(rows, count), factors(columns, count)
    outs, ins = tuple(dims[0]), tuple(dims[1])
    check_dims(outs, rows, "out_dims")
    check_dims(ins, columns, "in_dims")
    if format == "mpo" and len(outs) != len(ins):
        raise ValueError(
            f"dims are {(outs, ins)}, but format 'mpo' has an output and an input on every core; "
            "give as many of each"
        )
    return CONV[format](outs, ins, layer.kernel_size, groups)


def channel_dims(graph: Graph, layer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the dimensions of a network of a kernel, without groups and kernel."""
    outs = graph.out_legs[1:] if layer.groups > 1 else graph.out_legs
    ins = graph.in_legs[: -len(layer.kernel_size)]
    return tuple(graph.sizes[leg] for leg in outs), tuple(graph.sizes[leg] for leg in ins)


def kernels(
    graph: Graph, cores: list[Tensor], size: tuple[int, ...], channels: tuple[int, int]
) -> list[Tensor]:
    """Contract cores to kernels that are applied one after the other.

    From channels to bonds; along all axes at once, or one after the other; from bonds to channels.

    Parameters
    ----------
    graph : Graph
        In the format "tucker", "tt" or "cp".
    cores : list of Tensor
    size : tuple of int
        Size of the kernel.
    channels : (int, int)
        Input and output channels, without padding.
    """
    axes, ins, outs = graph.in_legs[-len(size) :], graph.in_legs[: -len(size)], graph.out_legs
    ones = (1,) * len(size)
    before, after = _bonds(graph, ins), _bonds(graph, outs)
    ranks = [prod(graph.sizes[bond] for bond in bonds) for bonds in (before, after)]

    def kernel(legs: Names, roles: Names, *shape: int) -> Tensor:
        held = [n for n, names in enumerate(graph.cores) if set(legs) & set(names)]
        terms = [graph.cores[n] for n in held]
        return contract([cores[n] for n in held], terms, roles).reshape(shape)

    first = kernel(ins, (*before, *ins), ranks[0], -1, *ones)[:, : channels[0]]
    last = kernel(outs, (*outs, *after), -1, ranks[1], *ones)[: channels[1]]
    if before != after and len({graph.holders(leg)[0] for leg in axes}) == 1:
        return [first, kernel(axes, (*after, *before, *axes), ranks[1], -1, *size), last]
    middle, bonds = [], before
    for n, leg in enumerate(axes):
        shape = tuple(size[k] if k == n else 1 for k in range(len(size)))
        names = graph.cores[graph.holders(leg)[0]]
        following = tuple(name for name in names if name not in (leg, *bonds))
        rows = following or bonds  # a sum of products has one bond
        middle.append(kernel((leg,), (*following, *bonds, leg), graph.sizes[rows[0]], -1, *shape))
        bonds = rows
    return [first, *middle, last]


def _bonds(graph: Graph, legs: Names) -> Names:
    """Bonds between the cores of legs and those of others."""
    inside = [names for names in graph.cores if set(legs) & set(names)]
    others = {name for names in graph.cores if names not in inside for name in names}
    found = dict.fromkeys(name for names in inside for name in names)
    return tuple(name for name in found if name in others)
