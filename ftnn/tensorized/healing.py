"""Healing: a tensorized model comes closer to the dense one it was made of.

*Layer by layer.* Every layer is fitted again, to what reaches it now, without gradients
(:mod:`ftnn.tensorized.refits`).

*As a whole.* All parameters are trained by gradients, so that the outputs are those of the dense
model (distillation), or for a loss of one's own, such as that of labels.
"""

import copy
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..training.display import make_display
from .course import SCORE, Course, Loss, Plan
from .difference import Difference, resolved
from .judge import Judge
from .module import TensorizedModule
from .neurons import permute
from .norms import NORMS_STEP, heal_norms, norms_of
from .places import call, output_of
from .refits import Refits
from .tensorization import Tensorization


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
        Whether to fit the layers again, one after the other, to what reaches them now. A fit is
        taken if it lowers the error of the outputs, with the last layer fitted to it or as it is.
        Last, batch normalizations take the means and variances of what reaches them.
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
    for names, neurons in getattr(given, "neuron_orders", {}).items():
        try:
            permute(teacher, names, neurons)
        except (AttributeError, IndexError, TypeError, RuntimeError):
            raise ValueError(
                f"the dense model has no linear layers {', '.join(map(repr, names))} with "
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
        for n, goal in enumerate(goals):
            if torch.isnan(goal).any():
                raise ValueError(
                    f"batch {n}: the dense model's outputs are not numbers; check its inputs"
                )
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


def _heal_layers(
    course: Course, teacher: nn.Module, order: list[str], tell: Callable[[str], None]
) -> None:
    """Heal layer after layer, from where a checkpoint left off."""
    errors = course.errors
    if "start" not in errors:
        errors["start"] = course.judge.error(course.model)
        course.checkpoint()
    last = next((name for name in reversed(order) if name != NORMS_STEP), "")
    refits = Refits(course.model, teacher, course.judge, last)
    for name in order:
        if name in errors:
            continue
        if course.stopped:
            return
        before = list(errors.values())[-1]
        if name == NORMS_STEP:
            errors[name] = heal_norms(course.model, course.judge, before)
        else:
            errors[name] = refits.step(name, before)
        course.checkpoint()
        tell(f"{name}: {course.judge.shown(errors[name])}")
