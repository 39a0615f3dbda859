"""Statistics of steps: loss, score and gradient, on the device and on the host."""

import math
from dataclasses import dataclass

import torch


class DivergenceError(RuntimeError):
    """Raised when the loss or its gradient is no longer finite."""


@dataclass(frozen=True)
class StepStats:
    """Statistics of one step, before its update.

    Attributes
    ----------
    loss, score : float
        Means over the batch.
    grad_norm : float
        Before clipping.
    lr : float
    step : int
        Counted from 1, over all epochs.
    samples : int
        Size of the batch, over all processes.
    """

    loss: float
    score: float
    grad_norm: float
    lr: float
    step: int
    samples: int

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite; if not, this and all later updates are skipped."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


class PendingStats:
    """Statistics of a step on the device, so that the host does not wait for the step.

    Parameters
    ----------
    numbers : float64 tensor (3,)
        Loss, score and norm of the gradient.
    lr, step, samples
        As in :class:`StepStats`.
    """

    def __init__(self, numbers: torch.Tensor, lr: float, step: int, samples: int):
        self.lr, self.step, self.samples = lr, step, samples
        self._numbers = numbers.to("cpu", non_blocking=True)
        self._sent: torch.cuda.Event | None = None
        if numbers.is_cuda:
            self._sent = torch.cuda.Event()
            self._sent.record()

    def read(self) -> StepStats:
        """Read the statistics; waits for this step only."""
        if self._sent is not None:
            self._sent.synchronize()
        loss, score, norm = self._numbers.tolist()
        return StepStats(loss, score, norm, self.lr, self.step, self.samples)
