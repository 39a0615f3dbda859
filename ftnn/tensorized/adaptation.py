r"""Ranks that adapt while a model trains: soft thresholds of Schmidt values, to a parameter target.

The Schmidt values of a bond are the singular values of the weight, as a matrix from the legs on one
side of the bond to those on the other: they belong to the weight, while singular values of a bare
core depend on the gauge. In canonical form, with all other cores orthonormal towards a core, they
are those of this core as a matrix. A threshold :math:`s \mapsto \max(s - \tau, 0)` is the proximal
step of the nuclear norm of that matrix: penalized, a rank falls where data do not hold it up.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..arrays.contraction import contract
from .fit import move_gauge
from .graph import Graph
from .module import TensorizedModule


def schmidt_values(module: TensorizedModule) -> dict[str, Tensor]:
    """Return the Schmidt values of the weight of a module at every bond.

    Parameters
    ----------
    module : TensorizedModule
        In a format without loops: not "ring" or "cp".

    Returns
    -------
    dict of str to Tensor
        In descending order.

    Raises
    ------
    ValueError
        If the format has loops.

    Examples
    --------
    >>> import torch, ftnn
    >>> layer = ftnn.tensorized.Linear(6, 4, "svd", ranks=3)
    >>> values = ftnn.tensorized.schmidt_values(layer)["r0"]
    >>> bool(torch.allclose(values, torch.linalg.svdvals(layer.matrix().double())[:3]))
    True
    """
    _check_tree(module)
    with torch.no_grad():
        cores = [core.detach().double() for core in module.cores]
        return {bond: values for bond, values in _sweep(cores, module.graph, {})}


class RankAdaptation:
    """Lowers the ranks of a model in training until it has as many parameters as wanted.

    Parameters
    ----------
    model : Module
        With tensorized layers in formats without loops; others are left alone.
    params : int
        Number of entries of all cores together, in the end.
    steps : int
        Number of training steps until then.
    every : int
        Steps between two thresholds.
    optimizer : torch.optim.Optimizer, optional
        Its moments of the cores are dropped at every threshold: the gauge has changed.

    Raises
    ------
    ValueError
        If the model has no layer to adapt, or cores of rank 1 have more entries.

    Notes
    -----
    At a share x of the steps, the model may have :math:`n_0 (n / n_0)^x` entries. One threshold,
    relative to the norm of every weight, is found by bisection for all layers. Until
    :meth:`finish`, shapes stay, and what is cut is zero, with gradients of zero: optimizers with
    weight decay or momentum can go on.

    Examples
    --------
    >>> import torch, ftnn
    >>> model = torch.nn.Sequential(ftnn.tensorized.Linear(64, 64, "mpo", ranks=8))
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> adaptation = ftnn.tensorized.RankAdaptation(model, 600, steps=10, optimizer=optimizer)
    >>> for _ in range(10):
    ...     model(torch.randn(32, 64)).square().mean().backward()
    ...     optimizer.step()
    ...     adaptation.step()
    >>> adaptation.finish()
    >>> sum(core.numel() for core in model[0].cores) <= 600
    True
    """

    def __init__(
        self,
        model: nn.Module,
        params: int,
        steps: int,
        every: int = 10,
        optimizer: torch.optim.Optimizer | None = None,
    ):
        self.layers = [
            module
            for module in model.modules()
            if isinstance(module, TensorizedModule) and module.graph.is_tree and module.graph.bonds
        ]
        if not self.layers:
            raise ValueError("the model has no tensorized layer whose ranks could adapt")
        if steps < 1 or every < 1:
            raise ValueError(f"steps is {steps} and every {every}, expected at least 1 of each")
        least = sum(_entries(module.graph, 1) for module in self.layers)
        if params < least:
            raise ValueError(f"params is {params}, but cores of rank 1 have {least} entries")
        self.start = sum(module.graph.num_params for module in self.layers)
        self.params, self.steps, self.every = params, steps, every
        self.optimizer = optimizer
        self.done = 0

    def step(self) -> None:
        """Count a step of training, and apply a threshold if it is time."""
        self.done += 1
        if self.done % self.every == 0 or self.done == self.steps:
            share = min(self.done / self.steps, 1.0)
            self._shrink(int(self.start * min(self.params / self.start, 1.0) ** share))

    def finish(self) -> None:
        """Apply the last threshold, and cut off what is zero: cores become new parameters."""
        self._shrink(min(self.params, self.start))
        for module in self.layers:
            graph, cores = _cut([core.detach() for core in module.cores], module.graph)
            module.set_cores(graph, cores, module.cores[0])

    @torch.no_grad()
    def _shrink(self, params: int) -> None:
        """Apply the least threshold at which all cores together have at most so many entries."""
        double = [[core.detach().double() for core in module.cores] for module in self.layers]
        spectra = []
        for cores, module in zip(double, self.layers, strict=True):
            values = {bond: own for bond, own in _sweep(list(cores), module.graph, {})}
            norm = max(float(own.norm()) for own in values.values()) or 1.0
            spectra.append((norm, values))
        low, high = 0.0, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            entries = 0
            for module, (norm, values) in zip(self.layers, spectra, strict=True):
                ranks = {b: max(int((own > middle * norm).sum()), 1) for b, own in values.items()}
                entries += module.graph.with_ranks(ranks).num_params
            low, high = (middle, high) if entries > params else (low, middle)
        for cores, module, (norm, values) in zip(double, self.layers, spectra, strict=True):
            if high * norm <= min(float(own.min()) for own in values.values()) and low == 0.0:
                continue  # nothing to cut
            for _ in _sweep(cores, module.graph, dict.fromkeys(values, high * norm)):
                pass
            for old, new in zip(module.cores, cores, strict=True):
                old.copy_(new)
                if self.optimizer is not None:
                    self.optimizer.state.pop(old, None)


def _sweep(
    cores: list[Tensor], graph: Graph, thresholds: dict[str, float]
) -> Iterator[tuple[str, Tensor]]:
    """Walk over a tree in canonical form, applying thresholds; yields bonds and Schmidt values.

    Changes the cores; shapes stay, with zeros where values are cut. The largest value is not cut.
    """
    for core, (parent, edge) in graph.parents.items():  # orthonormal but for the root
        move_gauge(cores, graph.cores, core, parent, edge)
    seen: set[str] = set()
    tour = graph.tour
    for step, core in enumerate(tour):
        following = tour[(step + 1) % len(tour)]
        bond = next((b for n, b in graph.neighbours(core) if n == following), None)
        if bond is None:
            continue
        names = graph.cores[core]
        inner = tuple(name for name in names if name != bond)
        matrix = contract([cores[core]], [names], (*inner, bond))
        shape, size = matrix.shape, matrix.shape[-1]
        u, s, vh = torch.linalg.svd(matrix.reshape(-1, size), full_matrices=False)
        if bond not in seen:
            seen.add(bond)
            yield bond, s
            if bond in thresholds:
                least = torch.zeros_like(s)
                least[0] = s[0]  # a rank of 1 stays, at its size
                s = torch.where(s > thresholds[bond], s - thresholds[bond], least)
        left = _wide(u, size)
        right = _wide((s[:, None] * vh).T, size).T
        kept = _wide((s > 0).to(u)[None], size)[0]
        cores[core] = contract([(left * kept).reshape(*shape[:-1], size)], [(*inner, bond)], names)
        there = graph.cores[following]
        primed = tuple(bond + "'" if name == bond else name for name in there)
        cores[following] = contract([right, cores[following]], [(bond, bond + "'"), primed], there)


def _wide(matrix: Tensor, columns: int) -> Tensor:
    """Add columns of zeros."""
    return nn.functional.pad(matrix, (0, columns - matrix.shape[1]))


def _cut(cores: list[Tensor], graph: Graph) -> tuple[Graph, list[Tensor]]:
    """Leave out the channels of bonds that are zero on either side."""
    kept: dict[str, Tensor] = {}
    for bond in graph.bonds:
        used = torch.ones(graph.sizes[bond], dtype=torch.bool, device=cores[0].device)
        for n in graph.holders(bond):
            axes = [k for k, name in enumerate(graph.cores[n]) if name != bond]
            used &= cores[n].abs().amax(dim=axes) > 0
        if not used.any():
            used[0] = True
        kept[bond] = used.nonzero()[:, 0]
    found = []
    for core, names in zip(cores, graph.cores, strict=True):
        for axis, name in enumerate(names):
            if name in kept:
                core = core.index_select(axis, kept[name])
        found.append(core)
    return graph.with_ranks({bond: len(index) for bond, index in kept.items()}), found


def _entries(graph: Graph, rank: int) -> int:
    return graph.with_ranks(dict.fromkeys(graph.bonds, rank)).num_params


def _check_tree(module: TensorizedModule) -> None:
    if not module.graph.is_tree:
        raise ValueError(
            f"format {module.format!r} has loops, across which there are no Schmidt values; use a "
            "chain or a tree"
        )
