"""Where a fit starts: successive singular value decompositions, in a product metric."""

import torch
from torch import Tensor

from ..arrays.contraction import contract
from .graph import Graph, Names
from .target import Target


def start_is_best(graph: Graph) -> bool:
    """Whether successive decompositions are the best approximation: of two matrices they are.

    The theorem of Eckart and Young, in the metric, as a single input leg is whitened exactly.
    """
    return graph.is_tree and len(graph.cores) <= 2 and len(graph.in_legs) == 1


def tree_start(target: Target) -> list[Tensor]:
    """Decompose from the leaves to the root, at the ranks of the graph.

    At full rank the weight is exact; otherwise the squared error in the product metric is at most
    the sum of the discarded weights (Oseledets, SIAM J. Sci. Comput. 33, 2295 (2011), Theorem 2.2,
    for chains).
    """
    graph = target.graph
    weight, inverses = target.whitened
    rest, names = weight, graph.legs
    cores: dict[int, Tensor] = {}
    for core, (_, bond) in graph.parents.items():
        inner = tuple(name for name in graph.cores[core] if name != bond)
        others = tuple(name for name in names if name not in inner)
        left = contract([rest], [names], (*inner, *others))
        shape = left.shape
        matrix = left.reshape(_length(shape[: len(inner)]), -1)
        key = (core, matrix.shape) if rest is weight else None  # the first does not know the ranks
        u, s, vh = target.decomposed(key, matrix)
        rank = graph.sizes[bond]
        u, kept = _to_rank(u, rank), _to_rank((s[:, None] * vh).T, rank).T
        cores[core] = contract(
            [u.reshape(*shape[: len(inner)], rank)], [(*inner, bond)], graph.cores[core]
        )
        rest, names = kept.reshape(rank, *shape[len(inner) :]), (bond, *others)
    root = len(graph.cores) - 1
    cores[root] = contract([rest], [names], graph.cores[root])
    return [_unwhitened(cores[n], graph.cores[n], inverses) for n in range(len(graph.cores))]


def ring_start(target: Target, seed: int = 0) -> list[Tensor]:
    """Start from the chain without the last bond, and small noise in the channels of that bond."""
    graph, chain = target.graph, target.graph.opened
    ranks = {bond: min(graph.sizes[bond], most) for bond, most in chain.most_ranks().items()}
    begun = tree_start(target.at(chain.with_ranks(ranks)))
    generator = torch.Generator().manual_seed(seed)
    cores = []
    for n, (core, names) in enumerate(zip(begun, chain.cores, strict=True)):
        shape = graph.shape(n)
        size = float(core.square().mean().sqrt())
        new = torch.randn(shape, generator=generator, dtype=core.dtype).to(core) * size * 1e-2
        place = tuple(
            slice(0, core.shape[names.index(name)]) if name in names else 0
            for name in graph.cores[n]
        )
        new[place] = core
        cores.append(new)
    return cores


def cp_start(target: Target, seed: int = 0) -> list[Tensor]:
    """Start a sum of products: leading singular vectors of every unfolding, and noise.

    With as many terms as there are entries of all legs but the largest, the sum is exact: unit
    vectors for these, and a row of the weight for each.
    """
    graph = target.graph
    rank = graph.sizes["r0"]
    groups = [tuple(name for name in core if name != "r0") for core in graph.cores]
    sizes = [_size(graph, group) for group in groups]
    widest = max(range(len(sizes)), key=sizes.__getitem__)
    others = [n for n in range(len(sizes)) if n != widest]
    generator = torch.Generator().manual_seed(seed)
    factors: dict[int, Tensor] = {}
    total = 1
    for n in others:
        total *= sizes[n]
    if rank >= total:
        index = torch.arange(total)
        weight = _unfolded(target.weight, graph, groups[widest])  # (widest, the others in order)
        factors[widest] = _to_rank(weight, rank)
        for n in reversed(others):
            unit = torch.zeros(sizes[n], rank).to(weight)
            unit[index % sizes[n], torch.arange(total)] = 1.0
            factors[n] = unit
            index = index // sizes[n]
    else:
        for n, group in enumerate(groups):
            u = torch.linalg.svd(_unfolded(target.weight, graph, group), full_matrices=False)[0]
            noise = torch.randn(sizes[n], rank, generator=generator, dtype=u.dtype).to(u)
            factors[n] = noise / sizes[n] ** 0.5
            few = min(u.shape[1], rank)
            factors[n][:, :few] += u[:, :few]
    return [
        contract(
            [factors[n].reshape(*(graph.sizes[leg] for leg in group), rank)],
            [(*group, "r0")],
            graph.cores[n],
        )
        for n, group in enumerate(groups)
    ]


def _unfolded(weight: Tensor, graph: Graph, rows: Names) -> Tensor:
    others = tuple(name for core in graph.cores for name in core if name in graph.legs)
    columns = tuple(name for name in others if name not in rows)
    return contract([weight], [graph.legs], (*rows, *columns)).reshape(_size(graph, rows), -1)


def _to_rank(matrix: Tensor, rank: int) -> Tensor:
    """Take as many columns, adding zeros if there are fewer."""
    return torch.nn.functional.pad(matrix[:, :rank], (0, max(rank - matrix.shape[1], 0)))


def _unwhitened(core: Tensor, names: Names, inverses: dict[str, Tensor]) -> Tensor:
    for leg in names:
        if leg in inverses:
            primed = tuple(leg + "'" if name == leg else name for name in names)
            core = contract([core, inverses[leg]], [primed, (leg + "'", leg)], names)
    return core.contiguous()


def _size(graph: Graph, legs: Names) -> int:
    return _length(tuple(graph.sizes[leg] for leg in legs))


def _length(shape: tuple[int, ...]) -> int:
    size = 1
    for dim in shape:
        size *= dim
    return size
