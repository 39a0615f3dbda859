r"""Two-site sweeps: neighbouring cores are fitted as one, and parted again.

The error is quadratic in the product of two neighbours, as in every core: the best product M is
solved for, and parted by a singular value decomposition at the rank of the bond. What that costs is
:math:`\mathrm{vec}(M - \tilde M)^T A\, \mathrm{vec}(M - \tilde M)`, with the matrix A of the normal
equations. Were A a product :math:`A_l \otimes A_r` of matrices of both sides, the best
:math:`\tilde M` were the truncated decomposition of :math:`A_l^{1/2} M A_r^{1/2}`; these are
estimated by partial traces of A.

As in the density matrix renormalization group (White, Phys. Rev. Lett. 69, 2863 (1992); for least
squares Holtz, Rohwedder and Schneider, SIAM J. Sci. Comput. 34, A683 (2012)), a pair can leave
what a single core cannot. As A is no product, a step may raise the error: one-site sweeps follow,
and the best cores of all are kept.
"""

from math import prod

import torch
from torch import Tensor

from ..arrays.contraction import contract
from .fit import Fitted, fit_cores, move_gauge, roles_of, solve_core, system_of
from .graph import Graph, Names
from .target import PRIME, Target

FLOOR = 1e-9
"""Least eigenvalue of the matrix of a side, relative to their mean, when it is inverted."""

Root = tuple[Tensor, Tensor, Names]
"""A square root and its inverse, and the names of its axes."""


def fit_pairs(target: Target, cores: list[Tensor], sweeps: int = 2) -> Fitted:
    """Lower the error of cores by pairs of neighbours, then one by one.

    Parameters
    ----------
    target : Target
        Of a tree.
    cores : list of Tensor
        Where to start.
    sweeps : int
        Walks over all bonds, and most walks over all cores after them.

    Returns
    -------
    Fitted
        The cores of the least error.
    """
    graph = target.graph
    if not graph.is_tree:
        raise ValueError("two-site sweeps need a tree: svd, mpo, tt, tree or tucker; use sites=1")
    start, cores = list(cores), list(cores)
    if len(cores) > 2:
        for core, (parent, edge) in graph.parents.items():
            move_gauge(cores, graph.cores, core, parent, edge)
        for _ in range(sweeps):
            for step, core in enumerate(graph.tour):
                following = graph.tour[(step + 1) % len(graph.tour)]
                bond = next((b for n, b in graph.neighbours(core) if n == following), None)
                if bond is not None:
                    _step(target, cores, core, following, bond)
    first = fit_cores(target, start, sweeps)
    second = fit_cores(target, cores, sweeps)
    return min(first, second, key=lambda found: found.error)


def _step(target: Target, cores: list[Tensor], core: int, other: int, bond: str) -> None:
    """Solve for two neighbours at once, and part them; the second is no longer orthonormal."""
    graph = target.graph
    left, right = (tuple(n for n in graph.cores[k] if n != bond) for k in (core, other))
    rest = [n for n in range(len(cores)) if n not in (core, other)]
    arrays, terms = [cores[n] for n in rest], [graph.cores[n] for n in rest]
    merged = target.at(Graph((*terms, left + right), graph.out_legs, graph.in_legs, graph.sizes))
    both = contract(
        [cores[core], cores[other]], [graph.cores[core], graph.cores[other]], left + right
    )
    both = solve_core(merged, [*arrays, both], len(rest))
    coupled, _ = roles_of(merged, len(rest))
    roots = []
    for side in (left, right):
        names = tuple(name for name in coupled if name in side)
        traced = tuple(name for name in coupled if name not in side)
        root = _root(system_of(merged, arrays, terms, names, (), traced), names) if names else None
        both = _times(both, left + right, root, 0)
        roots.append(root)
    rank, sizes = graph.sizes[bond], [graph.sizes[name] for name in left]
    u, s, vh = torch.linalg.svd(both.reshape(prod(sizes), -1), full_matrices=False)
    first = u[:, :rank].reshape(*sizes, rank)
    second = (s[:rank, None] * vh[:rank]).reshape(rank, *(graph.sizes[name] for name in right))
    first = _times(first, (*left, bond), roots[0], 1)
    second = _times(second, (bond, *right), roots[1], 1)
    cores[core] = contract([first], [(*left, bond)], graph.cores[core])
    cores[other] = contract([second], [(bond, *right)], graph.cores[other])
    move_gauge(cores, graph.cores, core, other, bond)


def _root(matrix: Tensor, names: Names) -> Root:
    """Return the square root of a positive matrix of named axes, and its inverse."""
    sizes = matrix.shape[: len(names)]
    size = prod(sizes)
    matrix = matrix.reshape(size, size)
    matrix = matrix * (size / matrix.trace().clamp(min=torch.finfo(matrix.dtype).tiny))
    values, vectors = torch.linalg.eigh(matrix)
    roots = values.clamp(min=FLOOR).sqrt()
    whole = (*sizes, *sizes)
    root, inverse = (vectors * roots) @ vectors.T, (vectors / roots) @ vectors.T
    return root.reshape(whole), inverse.reshape(whole), names


def _times(core: Tensor, names: Names, root: Root | None, which: int) -> Tensor:
    """Multiply some axes of a core by a root, or by its inverse."""
    if root is None:
        return core
    keys = root[2]
    primed = tuple(name + PRIME if name in keys else name for name in names)
    axes = (*(name + PRIME for name in keys), *keys)
    return contract([core, root[which]], [primed, axes], names)
