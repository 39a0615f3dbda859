r"""Healing: a tensorized model comes closer to the dense one it was made of.

*Layer by layer.* Every layer was fitted to the inputs of the dense model, but what reaches it are
inputs :math:`\tilde x` that other tensorized layers have changed. With C = :math:`E[x \tilde x^T]`
and :math:`\tilde\Sigma = E[\tilde x \tilde x^T]`, both centered, the mean squared difference of the
outputs :math:`W x` and :math:`\tilde W \tilde x` is, but for a constant,

.. math:: \mathrm{tr}\,(\tilde W - V) \tilde\Sigma (\tilde W - V)^T, \qquad
    V = W + W (C - \tilde\Sigma) \tilde\Sigma^{-1},

again a weight to approximate in a metric: the cores are fitted to V by least squares, without
gradients, and the bias takes the difference of the means. Healing by layers of this kind, with
gradients, is that of arXiv:2605.19842.

*As a whole.* All parameters are trained by gradients, so that the outputs are those of the dense
model (distillation), or for a loss of one's own, such as that of labels.
"""

import copy
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..training.display import make_display
from .candidates import POLISH, weight_of
from .course import SCORE, Course, Loss, Plan
from .decompose import Decomposition
from .difference import Difference, resolved
from .embedding import Embedding
from .fit import fit_cores
from .judge import Judge
from .module import TensorizedModule
from .neurons import permute
from .norms import NORMS_STEP, heal_norms, norms_of
from .places import call, output_of
from .rows import rows_of
from .target import target_of
from .tensorization import Tensorization

RIDGE = 1e-3
"""Added to the moments, relative to their mean, when they are inverted: few samples tell little."""


@dataclass(frozen=True, eq=False)
class Healed:
    """Result of :func:`heal`.

    Attributes
    ----------
    model : Module
        A copy of the tensorized model, with new cores.
    errors : dict of str to float
        Difference of the outputs on the batches, relative error or nats: at the "start", after
        every layer that was fitted anew, by name, after "batch normalization", if there is any, and
        after every epoch, "epoch 1" and so on.
    outcome : {"completed", "stopped"}
        Stopped by a signal, resumable.
    signal : int or None
        Number of this signal.
    """

    model: nn.Module
    errors: dict[str, float]
    outcome: str = "completed"
    signal: int | None = None


def heal(
    tensorized: nn.Module | Tensorization,
    dense: nn.Module,
    batches: Iterable[Any],
    layers: bool = True,
    epochs: int = 0,
    lr: float = 1e-3,
    loss: Loss | None = None,
    difference: Literal["auto"] | Difference = "auto",
    forward: Callable[[nn.Module, Any], Any] = call,
    progress: Callable[[str], None] | None = None,
    seed: int = 0,
    run_dir: str | os.PathLike | None = None,
    resume: bool = False,
    show: bool = False,
) -> Healed:
    """Bring a tensorized model closer to the dense one: layer by layer, then as a whole.

    Parameters
    ----------
    tensorized : Module or Tensorization
        Not changed.
    dense : Module
    batches : iterable
        Batches of the training data, as for :func:`ftnn.tensorize`; gone through once for every
        layer, and once an epoch.
    layers : bool
        Whether to fit the layers again, one after the other, to what reaches them now. A fit that
        does not lower the error of the outputs of the model is not taken. Last, batch
        normalizations take the means and variances of what reaches them.
    epochs : int
        Epochs of training all parameters by Adam, with a rate that falls to zero along a cosine.
    lr : float
        Peak learning rate.
    loss : callable, optional
        Of the outputs, those of the dense model, and the batch; by default the difference of the
        first two.
    difference : {"auto", "l2", "kl"} or callable
        As of :func:`ftnn.tensorize`.
    forward : callable
        Calls a model with a batch.
    progress : callable, optional
        Called with a line of text for every layer and epoch.
    seed : int
        Of the order of the batches, drawn anew every epoch, and of random draws such as dropout's.
    run_dir : path, optional
        Folder for checkpoints, after every layer and epoch, and ``metrics.jsonl``, a line for every
        epoch; data only, replaced atomically. With it the first Ctrl-C, SIGTERM or SIGHUP stops
        after the current step and a checkpoint, as in training.
    resume : bool
        Go on from the checkpoint in ``run_dir``. With the same models, batches, machine and number
        of threads, the result is that of a healing without interruption, bit by bit.
    show : bool
        Show progress as in training: a bar on a terminal, else lines.

    Returns
    -------
    Healed

    Raises
    ------
    ValueError
        If there are no batches or no tensorized layers, the models do not match, the loss is not
        finite, or ``run_dir`` is in use or its checkpoint is damaged or of another healing.
    KeyboardInterrupt
        On Ctrl-C without ``run_dir``, or on the second.

    Examples
    --------
    >>> import torch, ftnn
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    ... )
    >>> batches = [torch.randn(256, 64)]
    >>> found = ftnn.tensorize(model, batches, params=0.2)
    >>> healed = ftnn.tensorized.heal(found, model, batches)
    >>> min(healed.errors.values()) <= healed.errors["start"]
    True
    """
    given = tensorized.model if isinstance(tensorized, Tensorization) else tensorized
    model, teacher = copy.deepcopy(given), copy.deepcopy(dense).eval()
    for (first, second), neurons in getattr(given, "neuron_orders", {}).items():
        try:
            permute(teacher, first, second, neurons)
        except (AttributeError, IndexError, TypeError, RuntimeError):
            raise ValueError(
                f"the dense model has no linear layers {first!r} and {second!r} with "
                f"{len(neurons)} neurons between them; give the model that was tensorized"
            ) from None
    modes = {module: module.training for module in model.modules()}
    kept = list(batches)
    if not kept:
        raise ValueError("there are no batches, expected at least one")
    if epochs < 0 or not lr > 0:
        raise ValueError(f"epochs is {epochs} and lr {lr}, expected at least 0, and more than 0")
    model.eval()
    names = [n for n, module in model.named_modules() if isinstance(module, TensorizedModule)]
    if not names:
        raise ValueError("the model has no tensorized layer to heal; tensorize it first")
    with torch.no_grad():
        goals = [output_of(forward(teacher, batch)).detach() for batch in kept]
        if not any(len(goal) for goal in goals):
            raise ValueError("the batches have no samples, expected at least one")
        result = forward(teacher, kept[0])
        order = _call_order(model, names, kept[0], forward) if layers else []
    if layers and norms_of(model):
        order.append(NORMS_STEP)
    judge = Judge(resolved(difference, kept[0], result, goals[0]), kept, goals, forward)
    plan = Plan(layers, epochs, lr, seed)
    folder = None if run_dir is None else Path(run_dir)
    with make_display(SCORE, quiet=not show) as display:
        tell = display.message if progress is None else progress
        course = Course(model, judge, plan, loss, folder, display)
        with course.begun(resume) as interruption:
            with torch.no_grad():
                _heal_layers(course, teacher, order, tell)
            if not course.stopped:
                course.train(tell)
    for module, mode in modes.items():
        module.training = mode
    done = course.epoch == epochs and course.errors.keys() >= set(order)
    outcome = "completed" if done else "stopped"
    if not done:
        tell(f"stopped; checkpoint in {folder}: resume to continue")
    return Healed(model, course.errors, outcome, interruption.signal)


def _call_order(
    model: nn.Module, names: list[str], batch: Any, forward: Callable[..., Any]
) -> list[str]:
    """Return the layers that a batch reaches, in this order."""
    order: dict[str, None] = {}

    def note(name: str) -> Callable[..., None]:
        return lambda *_: order.setdefault(name, None)

    hooks = [model.get_submodule(name).register_forward_pre_hook(note(name)) for name in names]
    try:
        forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return list(order)


# ---- layer by layer ------------------------------------------------------------------------------


def _heal_layers(
    course: Course, teacher: nn.Module, order: list[str], tell: Callable[[str], None]
) -> None:
    """Heal layer after layer, from where a checkpoint left off."""
    errors = course.errors
    if "start" not in errors:
        errors["start"] = course.judge.error(course.model)
        course.checkpoint()
    for name in order:
        if name in errors:
            continue
        if course.stopped:
            return
        least = min(errors.values())
        if name == NORMS_STEP:
            errors[name] = heal_norms(course.model, course.judge, least)
        else:
            errors[name] = _heal_layer(course.model, teacher, name, course.judge, least)
        course.checkpoint()
        tell(f"{name}: {course.judge.shown(errors[name])}")


def _heal_layer(
    model: nn.Module,
    teacher: nn.Module,
    name: str,
    judge: Judge,
    before: float,
) -> float:
    """Fit a layer to what reaches it now, if that helps; return the error of the outputs."""
    layer = model.get_submodule(name)
    assert isinstance(layer, TensorizedModule)
    try:
        dense = teacher.get_submodule(name)
        weight = weight_of(dense).double()
    except (AttributeError, TypeError):
        raise ValueError(f"the dense model has no layer {name!r} to heal by") from None
    if isinstance(layer, Embedding):
        return before  # its inputs are those of the data
    pair = _Pair(getattr(dense, "groups", 1))
    for batch in judge.batches:
        inputs = [_inputs(one, name, batch, judge.forward) for one in (teacher, model)]
        if all(seen for seen in inputs):  # not every batch need reach every layer
            pair.add(*(torch.cat([rows_of(dense, x) for x in seen]) for seen in inputs))
    if not pair.count:
        return before
    cross, second, mean_dense, mean = pair.moments(getattr(dense, "bias", None) is not None)
    if not (torch.isfinite(cross).all() and torch.isfinite(second).all()):
        raise ValueError(
            f"layer {name!r}: inputs have values that are not finite; check the batches"
        )
    old = {key: value.clone() for key, value in layer.state_dict().items()}
    rows = weight.reshape(pair.groups, -1, weight.shape[1])
    eye = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
    size = second.diagonal(dim1=-2, dim2=-1).mean()
    ridge = RIDGE * (size if size > 0 else torch.ones_like(size)) * eye
    goal = rows + torch.linalg.solve(second + ridge, rows @ (cross - second), left=False)
    grouped = pair.groups > 1
    shared = layer.graph.out_legs[:1] if grouped else ()
    target = target_of(goal.flatten(0, 1), layer.graph, second if grouped else second[0], shared)
    fitted = fit_cores(target, [core.detach().double() for core in layer.cores], POLISH)
    layer.take(Decomposition(layer.graph, fitted.cores, fitted.error), old["cores.0"])
    if layer.bias is not None:
        bias = dense.bias
        assert isinstance(bias, Tensor)
        now = layer.matrix().double().reshape(rows.shape)
        gap = rows @ mean_dense[..., None] - now @ mean[..., None]
        layer.bias.copy_(bias + gap.reshape(-1).to(bias))
    after = judge.error(model)
    if not after < before:
        layer.load_state_dict(old)
        return before
    return after


class _Pair:
    """Means of products of the inputs of two models, and of these inputs."""

    def __init__(self, groups: int):
        self.groups, self.count = groups, 0
        self.sums: list[Tensor] = []

    def add(self, dense: Tensor, now: Tensor) -> None:
        """Add rows (rows, groups * size)."""
        if not len(dense):
            return
        x, y = (rows.reshape(len(rows), self.groups, -1).transpose(0, 1) for rows in (dense, now))
        new = [x.mT @ y, y.mT @ y, x.sum(1), y.sum(1)]
        new = [part.double() for part in new]
        self.sums = [a + b for a, b in zip(self.sums, new, strict=True)] if self.sums else new
        self.count += len(dense)

    def moments(self, centered: bool) -> tuple[Tensor, ...]:
        """Return cross moments, second moments, and both means, with an axis of groups each."""
        cross, second, first, other = (part / self.count for part in self.sums)
        if centered:
            cross = cross - first[..., :, None] * other[..., None, :]
            second = second - other[..., :, None] * other[..., None, :]
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
