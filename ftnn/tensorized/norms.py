"""Batch normalizations of a tensorized model: means and variances of what reaches them now."""

import copy
from contextlib import suppress

from torch import nn

from .judge import Judge
from .places import NORMS

NORMS_STEP = "batch normalization"
"""Name of the step of healing."""


def norms_of(model: nn.Module) -> list[nn.Module]:
    """Return batch normalizations that keep means and variances."""
    return [
        module
        for module in model.modules()
        if type(module) in NORMS and module.running_mean is not None
    ]


def heal_norms(model: nn.Module, judge: Judge, before: float) -> float:
    """Take means and variances of what reaches batch normalizations now, if that helps."""
    norms = norms_of(model)
    old = [copy.deepcopy(norm.state_dict()) for norm in norms]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()  # type: ignore[operator]
        norm.momentum = None  # type: ignore[assignment]
        norm.train()
    with suppress(ValueError):  # of a single value, which has no variance
        for batch in judge.batches:
            judge.forward(model, batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    after = judge.error(model)
    if after < before:
        return after
    for norm, state in zip(norms, old, strict=True):
        norm.load_state_dict(state)
    return before
