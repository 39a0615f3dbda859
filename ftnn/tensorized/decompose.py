"""A matrix as a network of cores, of given ranks, given size, or given error."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from .factored import Factored
from .fit import fit_cores
from .graph import Graph, Names
from .pairs import fit_pairs
from .start import cp_start, ring_start, start_is_best, tree_start
from .target import Target, target_of

Ranks = int | Sequence[int] | Mapping[str, int]

SWEEPS = 12
"""Most walks over all cores in a fit."""

GROWTH = 1.25
"""Ranks grow by this factor until an error is reached."""


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Cores that approximate a matrix.

    Attributes
    ----------
    graph : Graph
        With the ranks that were chosen.
    cores : list of Tensor
        In double precision.
    error : float
        Relative error in the metric of the inputs.
    """

    graph: Graph
    cores: list[Tensor]
    error: float


def decompose(
    weight: Tensor,
    graph: Graph,
    moments: Tensor | Factored | None = None,
    shared: Names = (),
    ranks: Ranks | None = None,
    params: int | None = None,
    rtol: float | None = None,
    sweeps: int = SWEEPS,
    sites: Literal[1, 2] = 1,
) -> Decomposition:
    """Approximate a matrix by the cores of a graph.

    Parameters
    ----------
    weight : Tensor
        (out, in), real; padded with zeros to the dimensions of the graph.
    graph : Graph
        A format with its dimensions; its ranks are ignored.
    moments : Tensor or Factored, optional
        Second moments of the inputs, (in, in), or their diagonal (in,), with an axis of groups
        before them if there are shared legs. Without: the Frobenius norm.
    shared : tuple of str
        Output legs that number groups.
    ranks : int, sequence or mapping, optional
        Rank of all bonds, of every bond in order, or by name; ranks that gain nothing are lowered.
    params : int, optional
        Most entries of all cores.
    rtol : float, optional
        Largest relative error in the metric. With none of the three, the weight is exact.
    sweeps : int
        Most sweeps of alternating least squares; 0 leaves the start.
    sites : {1, 2}
        Whether sweeps over single cores follow some over pairs of neighbours, of trees; see
        :mod:`ftnn.tensorized.pairs`.

    Raises
    ------
    ValueError
        If more than one of ranks, params and rtol is given, or one is out of range.
    """
    given = [
        name for name, x in (("ranks", ranks), ("params", params), ("rtol", rtol)) if x is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; choose one")
    if sites not in (1, 2):
        raise ValueError(f"sites is {sites!r}, expected 1 or 2")
    target = target_of(weight, graph, moments, shared)
    found = _found(target, ranks, params, rtol, sweeps)
    if sites == 1:
        return found
    target = target.at(found.graph)
    cores = fit_pairs(target, found.cores).cores
    return Decomposition(found.graph, cores, target.error(cores, proper=True))


def _found(
    target: Target, ranks: Ranks | None, params: int | None, rtol: float | None, sweeps: int
) -> Decomposition:
    """Fit cores of given ranks, size or error."""
    graph = target.graph
    if ranks is not None:
        return fitted_at(target, given_ranks(graph, ranks), sweeps)
    if params is not None:
        fits = [fitted_at(target, own, sweeps) for own in profiles(target, params)]
        return min(fits, key=lambda found: found.error)
    return _accurate(target, 0.0 if rtol is None else rtol, sweeps)


def fitted_at(target: Target, graph: Graph, sweeps: int) -> Decomposition:
    """Fit cores of the ranks of a graph."""
    target = target.at(graph)
    if graph.is_tree:
        start = tree_start(target)
    elif graph.is_ring:
        start = ring_start(target)
    else:
        start = cp_start(target)
    fitted = fit_cores(target, start, 0 if start_is_best(graph) else sweeps)
    return Decomposition(graph, fitted.cores, target.error(fitted.cores, proper=True))


def capped(graph: Graph, ranks: Mapping[str, int]) -> Graph:
    """Return a graph with ranks, lowered where a core or the weight cannot have them."""
    most = graph.most_ranks()
    found = graph.with_ranks({bond: min(rank, most[bond]) for bond, rank in ranks.items()})
    while graph.is_tree:
        before = found.ranks
        for n, core in enumerate(found.cores):
            for bond in (name for name in core if name in graph.bonds):
                rest = prod(found.shape(n)) // found.sizes[bond]
                if found.sizes[bond] > rest:
                    found = found.with_ranks({bond: rest})
        if found.ranks == before:
            break
    return found


def given_ranks(graph: Graph, ranks: Ranks) -> Graph:
    """Check ranks and put them on a graph."""
    bonds = graph.bonds
    if not isinstance(ranks, (Sequence, Mapping)):
        by_name: Mapping[str, int] = dict.fromkeys(bonds, ranks)
    elif isinstance(ranks, Mapping):
        by_name = ranks
        if set(ranks) != set(bonds):
            raise ValueError(f"ranks name {sorted(ranks)}, expected {sorted(bonds)}")
    else:
        if len(ranks) != len(bonds):
            raise ValueError(
                f"ranks {tuple(ranks)} are {len(ranks)}, expected {len(bonds)}: {bonds}"
            )
        by_name = dict(zip(bonds, ranks, strict=True))
    for bond, rank in by_name.items():
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ValueError(f"the rank of {bond} is {rank!r}, expected an integer >= 1")
    return capped(graph, by_name)


def affordable(target: Target, params: int) -> Graph:
    """Return the graph of the largest ranks with at most so many entries.

    Along a tree, the bonds get all singular values above a common threshold; in other networks
    all bonds have the same rank, or one more.
    """
    graph = target.graph
    least = graph.with_ranks(dict.fromkeys(graph.bonds, 1))
    if least.num_params > params:
        raise ValueError(
            f"params is {params}, but cores of rank 1 have {least.num_params} entries; allow as "
            "many, or choose other dims"
        )
    return _largest(_by_size(target), params)


def profiles(target: Target, params: int) -> list[Graph]:
    """Return networks worth trying within a size: of a common threshold, and of equal ranks.

    Singular values are those in a product metric. At small sizes a threshold may leave a bond at
    rank 1 that all inputs have to pass, and equal ranks are better; at large ones rarely.
    """
    found = [affordable(target, params)]
    if target.graph.is_tree and len(target.graph.bonds) > 1:
        even = _largest(_even(target.graph), params)
        if even.ranks != found[0].ranks:
            found.append(even)
    return found


def _largest(graphs: "_Lazy", params: int) -> Graph:
    """Return the last of growing networks that has at most so many entries."""
    low, high = 0, len(graphs)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if graphs[middle].num_params <= params else (low, middle)
    return graphs[low]


class _Lazy:
    """A list whose entries are made when asked for."""

    def __init__(self, length: int, make: Callable[[int], Graph]):
        self.length, self.make = length, make

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, n: int) -> Graph:
        return self.make(n)


def _even(graph: Graph) -> _Lazy:
    """Return graphs of equal ranks, where one bond after the other gets a channel more."""
    count, most = len(graph.bonds), max(graph.most_ranks().values())

    def at(n: int) -> Graph:
        ranks = {bond: 1 + (n + count - 1 - k) // count for k, bond in enumerate(graph.bonds)}
        return capped(graph, ranks)

    return _Lazy(count * (most - 1) + 1, at)


def _by_size(target: Target) -> _Lazy:
    """Return graphs of growing ranks, the first of rank 1."""
    graph = target.graph
    if not graph.is_tree:
        return _even(graph)
    values = target.spectra
    if not values:
        return _Lazy(1, lambda n: graph)
    order = torch.cat(list(values.values())).argsort(descending=True, stable=True)
    bonds = torch.cat([torch.full_like(own, n) for n, own in enumerate(values.values())])[order]

    def at(n: int) -> Graph:  # one value at a time, also where many are equal
        first = bonds[: n + 1]
        ranks = {bond: max(1, int((first == k).sum())) for k, bond in enumerate(values)}
        return capped(graph, ranks)

    return _Lazy(len(order), at)


def _accurate(target: Target, rtol: float, sweeps: int) -> Decomposition:
    """Fit cores of the least ranks found that reach an error."""
    if not 0.0 <= rtol < 1.0:
        raise ValueError(f"rtol is {rtol!r}, expected a number from 0, exact, to below 1")
    graph = target.graph
    full = capped(graph, graph.full_ranks())
    if rtol == 0.0 or not graph.bonds:
        return fitted_at(target, full, sweeps)
    if graph.is_tree:
        values = target.spectra
        share = rtol / max(len(values), 1) ** 0.5
        ranks = {bond: _needed(own, share) for bond, own in values.items()}
    else:
        ranks = dict.fromkeys(graph.bonds, 1)
    while True:
        chosen = capped(graph, ranks)
        if chosen.num_params >= full.num_params:  # a ring is exact as a chain already
            return fitted_at(target, full, sweeps)
        found = fitted_at(target, chosen, sweeps)
        if found.error <= rtol:
            return found
        ranks = {bond: max(rank + 1, int(GROWTH * rank)) for bond, rank in chosen.ranks.items()}


def _needed(values: Tensor, share: float) -> int:
    """Return the number of singular values whose tail is at most a share of all."""
    tails = values.square().flip(0).cumsum(0).flip(0)  # tail from this one on
    return max(1, int((tails > share**2 * tails[0]).sum()))
