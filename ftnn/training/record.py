"""Record of an epoch: the entries of its line of metrics, and the words when training diverges."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .checkpoint import JSON_NAME
from .evaluation import Evaluation
from .step_stats import StepStats

if TYPE_CHECKING:
    from .fit import Fit


def epoch_record(fit: "Fit", result: Evaluation | None, keep: bool) -> dict[str, Any]:
    """Return the entries of an epoch without those that callbacks measure.

    Parameters
    ----------
    fit : Fit
    result : Evaluation or None
        On the validation samples, if there are any.
    keep : bool
        Whether the weights of this epoch were kept.
    """
    progress, score, updater = fit.progress, fit.objective.score, fit.updater
    return {
        "epoch": progress.epochs_done,
        "step": updater.steps,
        **progress.sums.means(score),
        "val_loss": None if result is None else result.loss,
        f"val_{score.name}": None if result is None else result.score,
        "lr": progress.sums.lr,
        "grad_norm": progress.sums.grad_norm / progress.sums.steps,
        "seconds": progress.sums.seconds,
        "weights": "average" if updater.average is not None else "current",
        "kept": keep,
    }


def describe_divergence(fit: "Fit", stats: StepStats) -> str:
    """Return the message of a :class:`DivergenceError`: what is not finite, where, and a remedy."""
    what = "loss" if not np.isfinite(stats.loss) else "gradient"
    clip = "" if fit.config.clip_norm else ", or set clip_norm=1.0"
    where = "."
    if fit.folder is not None:
        where = f". The last good checkpoint stays in {fit.folder / JSON_NAME}"
    epoch = fit.progress.epochs_done + 1
    return (
        f"the {what} is not finite in epoch {epoch}, step {stats.step}: training has diverged; "
        f"use a lower lr than {fit.config.lr:g}{clip}{where}"
    )
