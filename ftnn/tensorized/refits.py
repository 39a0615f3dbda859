r"""Layers of a tensorized model, fitted again to what reaches them.

Every layer was fitted to the inputs of the dense model, but what reaches it are inputs
:math:`\tilde x` that other tensorized layers have changed. With C = :math:`E[x \tilde x^T]` and
:math:`\tilde\Sigma = E[\tilde x \tilde x^T]`, both centered, the mean squared difference of the
outputs :math:`W x` and :math:`\tilde W \tilde x` is, but for a constant,

.. math:: \mathrm{tr}\,(\tilde W - V) \tilde\Sigma (\tilde W - V)^T, \qquad
    V = W + W (C - \tilde\Sigma) \tilde\Sigma^{-1},

again a weight to approximate in a metric: the cores are fitted to V by least squares, without
gradients, and the bias takes the difference of the means. Healing by layers of this kind, with
gradients, is that of arXiv:2605.19842.

Whether a fit helps, the outputs do not tell as long as layers behind it answer to what it was
before. The last layer hides most of that, and is soon fitted again: a fit is taken if the error of
the outputs is less than before, with the last layer fitted to it or as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .candidates import POLISH, weight_of
from .decompose import Decomposition
from .embedding import Embedding
from .fit import fit_cores
from .judge import Judge
from .module import TensorizedModule
from .rows import rows_of
from .target import target_of

RIDGE = 1e-3
"""Added to the moments, relative to their mean, when they are inverted: few samples tell little."""

ROUNDINGS = 10
"""Inputs do not vary if their variance is less than as many rounding errors of their square."""


class Refits:
    """Fits of the layers of a model, one after the other, each kept if it helps.

    Parameters
    ----------
    model : Module
        Its layers change.
    teacher : Module
        The dense model.
    judge : Judge
    last : str
        Name of the layer that is called last.
    """

    def __init__(self, model: nn.Module, teacher: nn.Module, judge: Judge, last: str):
        self.model, self.teacher, self.judge, self.last = model, teacher, judge, last
        self._least: float | None = None

    def step(self, name: str, before: float) -> float:
        """Fit a layer, if that helps; return the error of the outputs, given that before."""
        if name != self.last and self._least is None:  # of a healing that goes on, the same again
            self._least = min(before, self._answered())
        layer = self._layer(name)
        old = _State(layer)
        if not self._fit(name, layer):
            return before
        after = self.judge.error(self.model)
        helps = after < before
        if name != self.last:
            assert self._least is not None
            found = min(after, self._answered())
            helps = found < self._least
            self._least = min(found, self._least)
        if helps:
            return after
        old.restore()
        return before

    def _answered(self) -> float:
        """Return the error of the outputs with the last layer fitted; that layer stays."""
        layer = self._layer(self.last)
        old = _State(layer)
        if not self._fit(self.last, layer):
            return float("inf")
        found = self.judge.error(self.model)
        old.restore()
        return found

    def _layer(self, name: str) -> TensorizedModule:
        layer = self.model.get_submodule(name)
        assert isinstance(layer, TensorizedModule)
        return layer

    def _fit(self, name: str, layer: TensorizedModule) -> bool:
        """Fit a layer to what reaches it now; False if nothing does."""
        try:
            dense = self.teacher.get_submodule(name)
            weight = weight_of(dense).double()
        except (AttributeError, TypeError):
            raise ValueError(f"the dense model has no layer {name!r} to heal by") from None
        if isinstance(layer, Embedding):
            return False  # its inputs are those of the data
        pair = _Pair(getattr(dense, "groups", 1))
        for batch in self.judge.batches:
            models = (self.teacher, self.model)
            inputs = [_inputs(one, name, batch, self.judge.forward) for one in models]
            if all(seen for seen in inputs):  # not every batch need reach every layer
                pair.add(*(torch.cat([rows_of(dense, x) for x in seen]) for seen in inputs))
        if not pair.count:
            return False
        cross, second, mean_dense, mean = pair.moments(getattr(dense, "bias", None) is not None)
        if not (torch.isfinite(cross).all() and torch.isfinite(second).all()):
            raise ValueError(
                f"layer {name!r}: inputs have values that are not finite; check the batches"
            )
        rows = weight.reshape(pair.groups, -1, weight.shape[1])
        eye = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        size = second.diagonal(dim1=-2, dim2=-1).mean()
        ridge = RIDGE * (size if size > 0 else torch.ones_like(size)) * eye
        goal = rows + torch.linalg.solve(second + ridge, rows @ (cross - second), left=False)
        grouped = pair.groups > 1
        shared = layer.graph.out_legs[:1] if grouped else ()
        metric = second if grouped else second[0]
        target = target_of(goal.flatten(0, 1), layer.graph, metric, shared)
        like = layer.cores[0].detach()
        fitted = fit_cores(target, [core.detach().double() for core in layer.cores], POLISH)
        layer.take(Decomposition(layer.graph, fitted.cores, fitted.error), like)
        if layer.bias is not None:
            bias = dense.bias
            assert isinstance(bias, Tensor)
            now = layer.matrix().double().reshape(rows.shape)
            gap = rows @ mean_dense[..., None] - now @ mean[..., None]
            layer.bias.copy_(bias + gap.reshape(-1).to(bias))
        return True


class _State:
    """What a fit changes of a layer."""

    def __init__(self, layer: TensorizedModule):
        self.layer, self.error = layer, layer.error
        self.values = {name: value.clone() for name, value in layer.state_dict().items()}

    def restore(self) -> None:
        """Put it back."""
        self.layer.load_state_dict(self.values)
        self.layer.error = self.error


class _Pair:
    """Means of products of the inputs of two models, and of these inputs."""

    def __init__(self, groups: int):
        self.groups, self.count, self.rounding = groups, 0, 0.0
        self.sums: list[Tensor] = []

    def add(self, dense: Tensor, now: Tensor) -> None:
        """Add rows (rows, groups * size)."""
        if not len(dense):
            return
        kind = torch.promote_types(now.dtype, torch.float32)
        both = (rows.to(kind).reshape(len(rows), self.groups, -1) for rows in (dense, now))
        x, y = (rows.transpose(0, 1) for rows in both)
        new = [x.mT @ y, y.mT @ y, x.sum(1), y.sum(1)]
        new = [part.double() for part in new]
        self.rounding = ROUNDINGS * torch.finfo(kind).eps
        self.sums = [a + b for a, b in zip(self.sums, new, strict=True)] if self.sums else new
        self.count += len(dense)

    def moments(self, centered: bool) -> tuple[Tensor, ...]:
        """Return cross moments, second moments, and both means, with an axis of groups each."""
        cross, second, first, other = (part / self.count for part in self.sums)
        if centered:
            squares = second.diagonal(dim1=-2, dim2=-1)
            cross = cross - first[..., :, None] * other[..., None, :]
            second = second - other[..., :, None] * other[..., None, :]
            varies = (second.diagonal(dim1=-2, dim2=-1) > self.rounding * squares).to(second)
            cross = cross * varies[..., None, :]
            second = second * varies[..., :, None] * varies[..., None, :]
        return cross, second, first, other


def _inputs(model: nn.Module, name: str, batch: Any, forward: Callable[..., Any]) -> list[Tensor]:
    """Return all that reaches a layer, call by call."""
    seen: list[Tensor] = []

    def record(module: nn.Module, given: tuple, named: Mapping[str, Any]) -> None:
        seen.append((given[0] if given else named["input"]).detach())

    hook = model.get_submodule(name).register_forward_pre_hook(record, with_kwargs=True)
    try:
        forward(model, batch)
    finally:
        hook.remove()
    return seen
