"""TensorBoard: logging of a fit to TensorBoard, through torch's writer."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .callbacks import Callback

if TYPE_CHECKING:
    from .fit import Fit
    from .progress import FitResult
    from .step_stats import StepStats

FOLDER_NAME = "tensorboard"


class TensorBoard(Callback):
    """Callback that logs loss, score, learning rate, gradient norm, and statistics by layer.

    View them with ``tensorboard --logdir RUN``. Requires the package tensorboard.

    Parameters
    ----------
    folder : path, optional
        By default the folder ``tensorboard`` in the run folder.
    every : int
        Number of steps between points of the curves by step.

    Raises
    ------
    ImportError
        If tensorboard is not installed.

    Examples
    --------
    >>> TensorBoard(every=0)
    Traceback (most recent call last):
    ...
    ValueError: every is 0, expected an integer >= 1; try 10
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, every: int = 10):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every is {every!r}, expected an integer >= 1; try 10")
        try:
            import tensorboard  # type: ignore[import-untyped]  # noqa: F401
        except ModuleNotFoundError as error:
            if error.name != "tensorboard":
                raise
            raise ImportError(
                "TensorBoard needs the package tensorboard; `pip install tensorboard`"
            ) from None
        self.folder, self.every = folder, every
        self._writer: Any = None

    def fit_start(self, fit: "Fit") -> None:
        """Open the event file; when resuming, points after the checkpoint are purged."""
        if not fit.world.leads:
            return
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder
        if folder is None:
            if fit.folder is None:
                raise ValueError(
                    "TensorBoard needs a folder, but the fit has none; give TensorBoard(folder)"
                )
            folder = fit.folder / FOLDER_NAME
        Path(folder).mkdir(parents=True, exist_ok=True)
        steps = fit.updater.steps
        self._writer = SummaryWriter(str(folder), purge_step=steps + 1 if steps else None)

    def step_measured(self, fit: "Fit", stats: "StepStats") -> None:
        """Add a point to the curves by step."""
        if self._writer is None or stats.step % self.every:
            return
        for name, value in (
            ("loss", stats.loss),
            (fit.objective.score.name, stats.score),
            ("lr", stats.lr),
            ("grad_norm", stats.grad_norm),
        ):
            self._writer.add_scalar(f"step/{name}", value, stats.step)

    def epoch_end(self, fit: "Fit", record: Mapping[str, Any]) -> None:
        """Add a point to the curves by epoch; the largest where a layer has several numbers."""
        if self._writer is None:
            return
        for key, value in record.items():
            for name, number in _numbers(key, value):
                self._writer.add_scalar(name, number, record["step"])
        self._writer.flush()

    def fit_end(self, fit: "Fit", result: "FitResult") -> None:
        """Add the result as text."""
        if self._writer is not None:
            text = f"{result.outcome}: {result.epochs} epochs, best {result.best_epoch}"
            self._writer.add_text("result", text, result.steps)

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _numbers(key: str, value: Any) -> list[tuple[str, float]]:
    """Return tags and numbers of an entry of a record."""
    if isinstance(value, dict):
        largest = {
            layer: max(numbers, default=None) if isinstance(numbers, list) else numbers
            for layer, numbers in value.items()
        }
        return [
            (f"{key}/{layer or 'model'}", float(number))
            for layer, number in largest.items()
            if isinstance(number, (int, float))
        ]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or key in ("epoch", "step"):
        return []
    part, _, quantity = key.partition("_")
    tag = f"{quantity}/{part}" if part in ("train", "val") else f"epoch/{key}"
    return [(tag, float(value))]
