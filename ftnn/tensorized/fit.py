r"""Alternating least squares over the cores of a weight, in the metric of its inputs.

The error :math:`\mathrm{tr}\,(W - \tilde W) \Sigma (W - \tilde W)^T` is quadratic in every single
core x, as :math:`\tilde W` is linear in it: :math:`x^T A x - 2 b^T x + c`. Both terms are networks:
b is :math:`W \Sigma` contracted with all other cores; A is all other cores twice, their outputs
joined, and their inputs joined by :math:`\Sigma`. Output legs of the core itself are on neither
side of A, which is therefore solved once for all of them; likewise inputs, if the metric is the
identity. If it is diagonal, there is a system for each of them. No format is special: chains,
trees, rings, sums of products.

Between cores of a tree, the bond's gauge is moved by a QR decomposition, so that the other cores
are orthonormal, and the condition number of A is at most that of :math:`\Sigma`.

ALS in this metric is known for Tucker and CP (arXiv:2511.04494).
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ..arrays.contraction import contract
from .graph import Names
from .start import start_is_best, tree_start
from .target import PRIME, Target

DIRECT = 2048
"""Largest system that is solved directly; larger ones by conjugate gradients."""

STEPS = 10
"""Conjugate gradient steps of a larger system, from the core so far; every one lowers the error."""

RIDGE = 1e-13
"""Added to the diagonal of a system, relative to its mean."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """Result of a fit.

    Attributes
    ----------
    cores : list of Tensor
    errors : tuple of float
        Relative error of the start, and after every sweep.
    """

    cores: list[Tensor]
    errors: tuple[float, ...]

    @property
    def error(self) -> float:
        """Relative error of the cores in the metric."""
        return min(self.errors)


def fit_cores(target: Target, cores: list[Tensor], sweeps: int = 10, rtol: float = 1e-3) -> Fitted:
    """Lower the error of cores, one after the other.

    Parameters
    ----------
    target : Target
    cores : list of Tensor
        Where to start, with the shapes of ``target.graph``.
    sweeps : int
        Most walks over all cores.
    rtol : float
        Stop when a sweep lowers the error by less than this fraction.

    Returns
    -------
    Fitted
        The cores of the least error.
    """
    graph = target.graph
    best, errors = list(cores), [target.error(cores)]
    if errors[0] < 1e-14 or not target.square or not sweeps:
        return Fitted(best, tuple(errors))
    if start_is_best(graph):  # in closed form, whatever the start
        found = tree_start(target)
        errors.append(target.error(found))
        return Fitted(found if errors[1] < errors[0] else best, tuple(errors))
    cores = list(cores)
    tour = graph.tour
    if graph.is_tree:
        for core, (parent, edge) in graph.parents.items():  # orthonormal but for the root
            move_gauge(cores, graph.cores, core, parent, edge)
    else:
        _balance(cores)
    for _ in range(sweeps):
        for step, core in enumerate(tour):
            cores[core] = solve_core(target, cores, core)
            if graph.is_tree:
                following = tour[(step + 1) % len(tour)]
                bond = next((b for n, b in graph.neighbours(core) if n == following), None)
                if bond is not None:
                    move_gauge(cores, graph.cores, core, following, bond)
            else:
                _balance(cores)
        errors.append(target.error(cores))
        if errors[-1] <= min(errors[:-1]):
            best = list(cores)
        if not errors[-1] < (1 - rtol) * errors[-2]:
            break
    return Fitted(best, tuple(errors))


def move_gauge(
    cores: list[Tensor], names: tuple[Names, ...], first: int, second: int, bond: str
) -> None:
    """Make a core orthonormal towards a bond, and multiply the rest into its neighbour."""
    here = names[first]
    inner = tuple(name for name in here if name != bond)
    matrix = contract([cores[first]], [here], (*inner, bond))
    if prod(matrix.shape[:-1]) < matrix.shape[-1]:
        return  # wider than high: its QR would shrink the bond
    q, r = torch.linalg.qr(matrix.reshape(-1, matrix.shape[-1]))
    cores[first] = contract([q.reshape(matrix.shape)], [(*inner, bond)], here)
    there = names[second]
    primed = tuple(bond + PRIME if name == bond else name for name in there)
    cores[second] = contract([r, cores[second]], [(bond, bond + PRIME), primed], there)


def _balance(cores: list[Tensor]) -> None:
    """Give all cores the same norm."""
    norms = [float(core.norm()) for core in cores]
    if min(norms) == 0.0:
        return
    mean = prod(norm ** (1 / len(norms)) for norm in norms)
    for n, norm in enumerate(norms):
        cores[n] = cores[n] * (mean / norm)


def solve_core(target: Target, cores: list[Tensor], core: int) -> Tensor:
    """Return the core of the least error, given all others."""
    graph = target.graph
    names = graph.cores[core]
    others = [n for n in range(len(cores)) if n != core]
    arrays = [cores[n] for n in others]
    terms = [graph.cores[n] for n in others]
    right = contract([target.weighted, *arrays], [graph.legs, *terms], names)
    if not others and target.moments is None:
        return right  # a single core is the weight
    coupled, batch = roles_of(target, core)
    if prod(graph.sizes[name] for name in coupled) > DIRECT:
        return _by_gradients(target, arrays, terms, names, right, cores[core])
    system = system_of(target, arrays, terms, coupled, batch)
    free = tuple(name for name in names if name not in coupled and name not in batch)
    sides = contract([right], [names], (*batch, *coupled, *free))
    size = prod(graph.sizes[name] for name in coupled)
    groups = tuple(graph.sizes[name] for name in batch)
    matrix = system.reshape(*groups, size, size)
    solved = _positive_solve(matrix, sides.reshape(*groups, size, -1))
    return contract([solved.reshape(sides.shape)], [(*batch, *coupled, *free)], names).contiguous()


def largest_system(target: Target) -> int:
    """Return the number of unknowns that are coupled in the largest system of a sweep."""
    sizes = target.graph.sizes
    systems = (roles_of(target, core)[0] for core in range(len(target.graph.cores)))
    return max(prod(sizes[name] for name in coupled) for coupled in systems)


def roles_of(target: Target, core: int) -> tuple[Names, Names]:
    """Names of a core between which a system couples, and those which have a system each."""
    graph, names = target.graph, target.graph.cores[core]
    coupled = [name for name in names if name in graph.bonds]
    batch = [name for name in names if name in target.shared]
    if target.moments is not None:
        inputs = [name for name in names if name in graph.in_legs]
        (coupled if target.is_full else batch).extend(inputs)
    return tuple(coupled), tuple(batch)


def system_of(
    target: Target,
    arrays: list[Tensor],
    terms: list[Names],
    coupled: Names,
    batch: Names,
    traced: Names = (),
) -> Tensor:
    """Contract the matrix of the normal equations, (batch, coupled, coupled).

    In the second copy of the other cores, bonds have names of their own; and inputs, where a
    summand of the metric couples them. Over names that are traced, the trace is taken.
    """
    graph = target.graph
    names = (*batch, *coupled, *(name + PRIME for name in coupled))
    same = {name + PRIME: name for name in traced}
    found = None
    for metric, metric_names in target.metric or [([], [])]:
        couples = target.couples(metric_names)
        own = set(graph.bonds + (graph.in_legs if couples else ())) - set(traced)
        twins = [tuple(n + PRIME if n in own else n for n in term) for term in terms]
        inputs = [n for n in coupled if n in graph.in_legs and not couples]
        deltas = [
            torch.eye(graph.sizes[n], dtype=target.weight.dtype, device=target.weight.device)
            for n in inputs
        ]
        part = contract(
            [*arrays, *arrays, *metric, *deltas],
            [
                *terms,
                *twins,
                *(tuple(same.get(n, n) for n in term) for term in metric_names),
                *((n, n + PRIME) for n in inputs),
            ],
            names,
        )
        found = part if found is None else found + part
    assert found is not None
    return found


def _positive_solve(matrix: Tensor, sides: Tensor) -> Tensor:
    """Solve systems of positive matrices, (..., n, n) and (..., n, columns)."""
    size = matrix.shape[-1]
    if size == 0:
        return sides
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(dim=-1).clamp(min=torch.finfo(matrix.dtype).tiny)
    eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    for ridge in (RIDGE, 1e-10, 1e-7):
        factor, failed = torch.linalg.cholesky_ex(matrix + (ridge * mean)[..., None, None] * eye)
        if not failed.any():
            return torch.cholesky_solve(sides, factor)
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > 1e-12 * values[..., -1:]
    inverse = torch.where(kept, 1 / values.where(kept, torch.ones_like(values)), 0.0)
    return vectors @ (inverse[..., None] * (vectors.mT @ sides))


def _by_gradients(
    target: Target,
    arrays: list[Tensor],
    terms: list[Names],
    names: Names,
    right: Tensor,
    start: Tensor,
) -> Tensor:
    """Solve for a core by conjugate gradients; the matrix is applied through the dense weight."""
    legs = target.graph.legs

    def apply(core: Tensor) -> Tensor:
        dense = contract([core, *arrays], [names, *terms], legs)
        return contract([target.measured(dense), *arrays], [legs, *terms], names)

    found = start
    rest = right - apply(found)
    direction, square = rest, rest.square().sum()
    goal = 1e-24 * right.square().sum()
    for _ in range(STEPS):
        if square <= goal:
            break
        image = apply(direction)
        length = square / (direction * image).sum()
        found = found + length * direction
        rest = rest - length * image
        previous, square = square, rest.square().sum()
        direction = rest + (square / previous) * direction
    return found
