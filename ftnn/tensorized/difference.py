r"""How far outputs are from those of the dense model.

``"l2"``, the squared difference relative to the square of the dense outputs, is right for outputs
that are quantities. Of a classifier it is misleading: its logits vary most along one direction or
two, and a layer of rank 1 that keeps them has a small difference and no idea of most classes.
``"kl"``, the mean divergence :math:`\sum_c p_c \log (p_c / q_c)` of the probabilities that the
logits stand for, tells this.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

Difference = Literal["l2", "kl"] | Callable[[Tensor, Tensor], Tensor]

NAMES = ("auto", "l2", "kl")


def check_difference(difference: Any) -> None:
    """Raise ``ValueError`` unless it is known or can be called."""
    if difference not in NAMES and not callable(difference):
        raise ValueError(
            f"difference is {difference!r}, expected 'auto', 'l2', 'kl' or a callable of outputs "
            "and dense outputs"
        )


def resolved(difference: Any, batch: Any, result: Any, output: Tensor) -> Difference:
    """Return what "auto" is for a model: "kl" where outputs are seen to be logits, else "l2".

    They are if the model returns something with ``logits``, or the batch is a pair of inputs and
    of integer labels, one for every row of outputs.
    """
    if difference != "auto":
        return difference
    if isinstance(getattr(result, "logits", None), Tensor):
        return "kl"
    labels = None
    if isinstance(batch, Mapping):
        labels = batch.get("labels")
    elif isinstance(batch, (tuple, list)) and len(batch) == 2:
        labels = batch[1]
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        return "l2"
    return "kl" if output.ndim > 1 and labels.shape == output.shape[:-1] else "l2"


def squares(difference: Difference, output: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of differences of a batch, and the size by which sums are divided."""
    if callable(difference):
        count = torch.tensor(float(len(goal)), device=goal.device)
        return difference(output, goal) * count, count
    if difference == "l2":
        return (output - goal).square().sum(), goal.square().sum()
    found, right = (x.log_softmax(-1).reshape(-1, x.shape[-1]) for x in (output, goal))
    total = (right.exp() * (right - found)).sum()
    return total, torch.tensor(float(len(right)), device=goal.device)


def mean_difference(difference: Difference, outputs: list[Tensor], goals: list[Tensor]) -> float:
    """Return the difference of all batches: relative square, mean divergence, or mean."""
    total = size = 0.0
    for output, goal in zip(outputs, goals, strict=True):
        own, count = squares(difference, output.double(), goal.double())
        total, size = total + float(own), size + float(count)
    return max(total, 0.0) / size if size else 0.0


def shown(difference: Difference, value: float) -> str:
    """Format a difference: relative errors in percent, divergences in nats."""
    if difference == "l2":
        return f"{value**0.5:.2%}"
    return f"{value:.3g} nats" if difference == "kl" else f"{value:.3g}"
