"""Progress of a fit, its running sums, and its result."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .evaluation import Evaluation
from .score import Score
from .step_stats import StepStats


@dataclass(frozen=True, eq=False)
class FitResult:
    """Result of a fit.

    Attributes
    ----------
    outcome : {"completed", "patience", "stopped"}
        All epochs done; no improvement for ``patience`` epochs; stopped on request, resumable.
    kept : {"best", "last"}
        Which weights ``model_path`` holds: those of the epoch with the best validation score
        (the lower loss breaks ties), or, without validation data, the last ones.
    best_epoch : int
        Epoch of those weights, from 1; 0 for those of the start.
    val_score, val_loss : float or None
        Validation results of those weights; the score is that of the objective, such as the
        accuracy.
    epochs, steps : int
        Total numbers, including all resumed parts.
    train_seconds : float
        Total time of all epochs, including all resumed parts, without set-up: steps, validation,
        checkpoints.
    history : list of dict
        One record of metrics per epoch.
    model_path : Path or None
        None if nothing is written.
    signal : int or None
        Number of the signal that asked to stop, such as SIGTERM; None if none did.
    """

    outcome: str
    kept: str
    best_epoch: int
    val_score: float | None
    val_loss: float | None
    epochs: int
    steps: int
    train_seconds: float
    history: list[dict[str, Any]]
    model_path: Path | None
    signal: int | None = None


@dataclass
class Sums:
    """Running sums of the current epoch."""

    loss: float = 0.0
    score: float = 0.0
    samples: int = 0
    grad_norm: float = 0.0
    steps: int = 0
    lr: float = 0.0
    step_seconds: float = 0.0
    seconds: float = 0.0

    def add(self, stats: StepStats) -> None:
        """Add the statistics of a step; time is counted separately."""
        self.loss += stats.loss * stats.samples
        self.score += stats.score * stats.samples
        self.samples += stats.samples
        self.grad_norm += stats.grad_norm
        self.steps += 1
        self.lr = stats.lr

    def means(self, score: Score) -> dict[str, float]:
        """Return means over the samples, and the speed, so far."""
        return {
            "train_loss": self.loss / self.samples,
            f"train_{score.name}": self.score / self.samples,
            "samples_per_s": self.samples / max(self.step_seconds, 1e-9),
        }


@dataclass
class Progress:
    """Epochs done, the best of them, and the sums of the current one; saved in checkpoints.

    ``replacements`` counts how often the model was replaced by another.
    """

    epochs_done: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_score: float | None = None
    best_loss: float | None = None
    replacements: int = 0
    sums: Sums = field(default_factory=Sums)

    def improved_by(self, new: Evaluation, score: Score) -> bool:
        """Return whether ``new`` has a better score, or the same with a lower loss."""
        if self.best_score is None:
            return True
        best_loss = np.inf if self.best_loss is None else self.best_loss
        return score.better(new.score, self.best_score) or (
            new.score == self.best_score and new.loss < best_loss
        )
