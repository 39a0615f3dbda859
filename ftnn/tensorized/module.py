"""What the tensorized modules of torch share: their cores."""

from collections.abc import Mapping
from math import prod
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..arrays.contraction import contract
from .decompose import Decomposition, Ranks, given_ranks
from .graph import Graph, Names

_KEPT = ("_kept", "_plans", "_ready")
"""Attributes that can be made again."""


_fused = [0]
"""Number of steps of fused optimizers, whose writes to parameters torch does not count."""


def _count_fused(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Count a step of a fused optimizer."""
    if any(group.get("fused") for group in optimizer.param_groups):
        _fused[0] += 1


register_optimizer_step_post_hook(_count_fused)


class TensorizedModule(nn.Module):
    """A module whose weight is a network of cores.

    Attributes
    ----------
    format : str
    cores : torch.nn.ParameterList
        In the order of the graph.
    error : float or None
        Relative error of :meth:`from_dense` in the metric of its moments; None for other modules.

    Notes
    -----
    While gradients are off, what is contracted of the cores is kept, until they change. Changes are
    seen that torch counts, or that put other memory in place: optimizers, ``load_state_dict``,
    ``copy_`` under ``torch.no_grad()``, ``core.data = ...``, ``to``. Writing into the memory of
    ``core.data``, as ``core.data.mul_(2)`` does, is neither: call :meth:`forget`, ``eval`` or
    ``train`` afterwards.
    """

    format: str
    error: float | None = None
    kinds: tuple[str, ...] = ("dense", "cores")
    groups: int = 1
    bias: nn.Parameter | None

    def __init__(self, format: str, graph: Graph, rows: int, columns: int):
        super().__init__()
        self.format = format
        self.graph = graph
        self._rows, self._columns = rows, columns
        self.cores = nn.ParameterList()

    @property
    def dims(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Dimensions of outputs and of inputs."""
        sizes = self.graph.sizes
        outs = tuple(sizes[leg] for leg in self.graph.out_legs)
        return outs, tuple(sizes[leg] for leg in self.graph.in_legs)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Size of every bond."""
        return tuple(self.graph.ranks.values())

    @property
    def num_params(self) -> int:
        """Number of parameters, the bias included."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def weight(self) -> Tensor:
        """The dense weight, in the layout of torch; contracted anew, and differentiable."""
        return self.matrix()

    def matrix(self) -> Tensor:
        """Contract the cores to a matrix (out, in), in their own precision."""
        device = self.cores[0].device.type
        if torch.is_autocast_enabled(device):  # would mix precisions within a contraction
            with torch.autocast(device, enabled=False):
                return self.matrix()
        graph = self.graph
        dense = _contracted(list(self.cores), graph)
        columns = prod(graph.sizes[leg] for leg in graph.in_legs)
        dense = dense.reshape(self.groups, -1, columns)  # every group has its own padding
        dense = dense[:, : self._rows // self.groups, : self._columns]
        return dense.reshape(self._rows, self._columns)

    def gap(self, weight: Tensor, mean: Tensor) -> Tensor:
        """Return the output of a weight (out, in) less that of the cores, for the mean input."""
        with torch.no_grad():
            gap = (weight - self.matrix()).double()
        groups = 1 if mean.ndim == 1 else len(mean)
        parts = gap.reshape(groups, -1, gap.shape[1]) @ mean.to(gap).reshape(groups, -1, 1)
        return parts.reshape(-1)

    # ---- ways to multiply, see plans.py ----------------------------------------------------------

    def input_shape(self, batch: int | tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a batch of inputs."""
        raise NotImplementedError

    def multiply(self, kind: str, x: Tensor, kept: bool, bias: Tensor | None = None) -> Tensor:
        """Multiply inputs by the weight in one of the ways; contracted weights may be kept."""
        return self.product(kind, x, *self.weights(kind, kept), bias)

    def product(
        self, kind: str, x: Tensor, arrays: list[Tensor], names: list[Names], bias: Tensor | None
    ) -> Tensor:
        """Multiply inputs by what :meth:`weights` returns."""
        raise NotImplementedError

    def kept_bytes(self, kind: str) -> int:
        """Bytes that are kept of contracted weights."""
        return self.cores[0].element_size() * self._rows * self._columns if kind == "dense" else 0

    def stores_much(self, kind: str, shape: tuple[int, ...]) -> bool:
        """Whether the backward pass would store more of the inputs than the dense weight has."""
        return (
            kind != "dense" and shape[0] * max(self.ranks, default=1) > self._rows * self._columns
        )

    def weights(self, kind: str, kept: bool) -> tuple[list[Tensor], list[Names]]:
        """Contract the cores as far as that needs no inputs; keep the result if asked to."""
        state = self.state() if kept else None
        if state is None:
            return self.contracted(kind)
        known, memory, _ = self.__dict__.get("_kept", (None, {}, ()))
        if known != state:
            # of cores that are held, no other can get the place in memory
            held = [core.detach() for core in self.cores]
            known, memory, _ = self.__dict__["_kept"] = (state, {}, held)
        if kind not in memory:
            memory[kind] = self.contracted(kind)
        return memory[kind]

    def state(self) -> list[Any] | None:
        """Return what changes with the cores; None if they tell no changes, as inference tensors.

        Torch counts what writes to a tensor, but not what is written to its ``data``.
        """
        # a list of parameters makes an iterator slower than a small product is
        cores: Any = self._modules["cores"]._parameters.values()  # type: ignore[union-attr]
        try:
            own = [(core.data_ptr(), core._version, core.dtype) for core in cores]
            return [_fused[0], *own]
        except RuntimeError:
            return None

    def forget(self) -> None:
        """Drop contracted weights that are kept, and plans."""
        for name in _KEPT:
            self.__dict__.pop(name, None)

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        self.forget()
        return super()._apply(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:
        """Choose training or evaluation; kept weights go, as writes to ``.data`` do not count."""
        self.forget()
        return super().train(mode)

    def contracted(self, kind: str) -> tuple[list[Tensor], list[Names]]:
        """Contract the cores as far as that needs no inputs."""
        if kind == "dense":
            return [self.matrix().contiguous()], [("out", "in")]
        return list(self.cores), list(self.graph.cores)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be contracted again."""
        return {name: value for name, value in self.__dict__.items() if name not in _KEPT}

    # ----------------------------------------------------------------------------------------------

    def to_quimb(self) -> Any:
        """Return the cores as a quimb tensor network, with their names as indices.

        Returns
        -------
        quimb.tensor.TensorNetwork
            Of NumPy arrays; outer indices are ``o0, o1, ...`` and ``i0, i1, ...``, tags ``core0``,
            ``core1`` and so on. Contract it to the padded weight with
            ``network.contract(all, output_inds=[...])``.
        """
        from quimb.tensor import Tensor as QuimbTensor
        from quimb.tensor import TensorNetwork

        return TensorNetwork(
            [
                QuimbTensor(core.detach().cpu().numpy(), names, tags=(f"core{n}",))
                for n, (core, names) in enumerate(zip(self.cores, self.graph.cores, strict=True))
            ]
        )

    def set_cores(self, graph: Graph, cores: list[Tensor], like: Tensor) -> None:
        """Take cores, in the dtype and on the device of a tensor."""
        self.graph = graph
        self.forget()
        new = (core.to(dtype=like.dtype, device=like.device).contiguous() for core in cores)
        self.cores = nn.ParameterList([nn.Parameter(core) for core in new])

    def _init_bias(self, bias: bool, device: Any, dtype: torch.dtype | None) -> None:
        """Draw a bias as torch does, within the inverse root of the number of inputs, or none."""
        bound = self._columns**-0.5
        drawn = torch.empty(self._rows, device=device, dtype=dtype).uniform_(-bound, bound)
        self.bias = nn.Parameter(drawn) if bias else None

    def _into(self, dense: nn.Module, weight: Tensor) -> None:
        """Give a dense layer a weight, and the bias and the mode of this module."""
        dense.weight = nn.Parameter(weight.contiguous())
        if self.bias is not None:
            dense.bias = nn.Parameter(self.bias.detach().clone())
        dense.train(self.training)

    def _init_cores(self, graph: Graph, ranks: Ranks, variance: float, like: Tensor) -> None:
        """Draw cores whose weight has entries of a variance: the product of variances and paths."""
        graph = given_ranks(graph, ranks)
        paths = prod(graph.ranks.values())
        deviation = (variance / paths) ** (0.5 / len(graph.cores))
        shapes = (graph.shape(n) for n in range(len(graph.cores)))
        self.set_cores(graph, [deviation * torch.randn(shape) for shape in shapes], like)

    def take(
        self,
        found: Decomposition,
        weight: Tensor,
        bias: Tensor | None = None,
        mean: Tensor | None = None,
    ) -> Self:
        """Take cores for a weight (out, in), and its bias, corrected by a mean input."""
        self.set_cores(found.graph, found.cores, weight)
        self.error = found.error
        if bias is not None:
            own = bias.detach().clone()
            self.bias = nn.Parameter(own if mean is None else own + self.gap(weight, mean).to(own))
        return self

    def like(self, layer: nn.Module) -> Self:
        """Take the mode of a dense layer, and whether its weight and bias are trained."""
        for core in self.cores:
            core.requires_grad_(layer.weight.requires_grad)  # type: ignore[union-attr, operator]
        bias = getattr(layer, "bias", None)
        if bias is not None and self.bias is not None:
            self.bias.requires_grad_(bias.requires_grad)
        return self.train(layer.training)

    @classmethod
    def from_cores(
        cls, layer: Any, format: str, found: Decomposition, mean: Tensor | None = None
    ) -> Self:
        """Make a module of cores that approximate a dense layer; a mean input corrects the bias."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        """Take ranks, too, from the cores that are loaded."""
        shapes: dict[str, int] = {}
        for n, names in enumerate(self.graph.cores):
            core = state_dict.get(f"{prefix}cores.{n}")
            if core is None or core.ndim != len(names):
                break
            shapes |= dict(zip(names, core.shape, strict=True))
        legs = self.graph.legs
        if shapes and all(shapes.get(leg) == self.graph.sizes[leg] for leg in legs):
            graph = self.graph.with_ranks({bond: shapes[bond] for bond in self.graph.bonds})
            if graph.ranks != self.graph.ranks:
                first = self.cores[0]
                self.set_cores(
                    graph, [first.new_empty(graph.shape(n)) for n in range(len(graph.cores))], first
                )
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _contracted(cores: list[Tensor], graph: Graph) -> Tensor:
    """Contract cores to a tensor of all legs; of two cores at once, without looking for a plan."""
    if len(cores) != 2 or not graph.bonds:
        return contract(cores, list(graph.cores), graph.legs)
    axes = [[names.index(bond) for bond in graph.bonds] for names in graph.cores]
    found = [name for names in graph.cores for name in names if name not in graph.bonds]
    whole = torch.tensordot(cores[0], cores[1], dims=axes)
    return whole.permute([found.index(leg) for leg in graph.legs])
