"""Displays of a fit: live on a terminal, plain lines elsewhere, or silent."""

import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO, final

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..interpret.error import ROUNDING
from .callbacks import Callback
from .score import Score

if TYPE_CHECKING:
    from .fit import Fit
    from .step_stats import StepStats

INTERVAL = 10.0
"""Seconds between plain lines within an epoch."""


def columns(score: Score) -> tuple[tuple[str, str, int, str], ...]:
    """Return heading, key of the record, width and format of every column."""
    loss = ".4f" if score.higher_is_better else ".2e"
    wide = len(score.short) + 5
    return (
        ("epoch", "epoch", 6, "d"),
        ("loss", "train_loss", 9, loss),
        (score.short, f"train_{score.name}", wide, score.spec),
        ("val loss", "val_loss", 9, loss),
        (f"val {score.short}", f"val_{score.name}", wide, score.spec),
        ("lr", "lr", 9, ".2e"),
        ("samples/s", "samples_per_s", 10, ".0f"),
        ("trunc err", "truncation_error", 10, ".1e"),
        ("s", "seconds", 7, ".1f"),
    )


def header(score: Score) -> str:
    """Return the headings of :func:`row`."""
    return "".join(heading.rjust(width) for heading, _, width, _ in columns(score))


def row(record: Mapping[str, Any], score: Score) -> str:
    """Format one epoch of the metrics as a line; "-" where there is no number.

    Examples
    --------
    >>> from ftnn.training.score import ACCURACY
    >>> row({"epoch": 3, "train_loss": 0.25, "train_accuracy": 0.925}, ACCURACY).split()
    ['3', '0.2500', '92.50%', '-', '-', '-', '-', '-', '-']
    """
    cells = []
    for _, key, width, spec in columns(score):
        value = record.get(key)
        if key == "truncation_error":
            value = largest_error(value)
        cells.append(("-" if value is None else format(value, spec)).rjust(width))
    return "".join(cells)


def largest_error(errors: Mapping[str, float | None] | None) -> float | None:
    """Return the largest truncation error over the layers, 0 if it is rounding, or None."""
    error = max((e for e in (errors or {}).values() if e is not None), default=None)
    return 0.0 if error is not None and error <= ROUNDING else error


def current(numbers: Mapping[str, float], score: Score) -> str:
    """Format loss, score and speed of the epoch so far."""
    shown = {key: format(numbers[key], spec) for _, key, _, spec in columns(score)[1:3]}
    loss, value = shown.values()
    return f"loss {loss}  {score.short} {value}  {numbers['samples_per_s']:.0f} samples/s"


class Display:
    """Silent display; defines the callbacks. A context manager.

    :class:`ShowProgress` calls :meth:`start` once, :meth:`step` after every step and
    :meth:`epoch` after every epoch.
    """

    def __enter__(self) -> Self:
        self.open()
        return self

    @final
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Open the display."""

    def close(self) -> None:
        """Restore the terminal."""

    def start(self, epochs: int, steps_per_epoch: int, done: int) -> None:
        """Start after ``done`` steps."""

    def step(self, epoch: int, step: int, numbers: Mapping[str, float]) -> None:
        """Show a step.

        Parameters
        ----------
        epoch, step : int
            Current epoch, counted from 1, and total number of steps done.
        numbers : mapping
            train_loss, the score and samples_per_s of the epoch so far.
        """

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Show an epoch; ``record`` is its line of the metrics."""

    def message(self, text: str) -> None:
        """Show a line of text."""


class PlainDisplay(Display):
    """Plain lines for logs: one per epoch, and one about every ten seconds within an epoch."""

    def __init__(self, stream: TextIO, score: Score, interval: float = INTERVAL):
        self.stream, self.score, self.interval = stream, score, interval
        self._total = self._steps_per_epoch = 0
        self._headed = False
        self._begun = self._last = time.monotonic()
        self._first_step = 0

    def start(self, epochs: int, steps_per_epoch: int, done: int) -> None:
        """Start estimating the remaining time."""
        self._total, self._steps_per_epoch = epochs * steps_per_epoch, steps_per_epoch
        self._first_step = done
        self._begun = self._last = time.monotonic()

    def step(self, epoch: int, step: int, numbers: Mapping[str, float]) -> None:
        """Write a line unless the last one is recent."""
        now = time.monotonic()
        if now - self._last < self.interval:
            return
        within = step - (epoch - 1) * self._steps_per_epoch
        left = (now - self._begun) / (step - self._first_step) * (self._total - step)
        self._write(
            f"  epoch {epoch} step {within}/{self._steps_per_epoch}"
            f"  {current(numbers, self.score)}  {_duration(left)} left"
        )

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Write the line of the epoch, after the headings the first time."""
        if not self._headed:
            self._write(header(self.score))
            self._headed = True
        self._write(row(record, self.score))

    def message(self, text: str) -> None:
        """Write ``text`` as a line."""
        self._write(text)

    def _write(self, line: str) -> None:
        print(line, file=self.stream, flush=True)
        self._last = time.monotonic()


class LiveDisplay(Display):
    """A bar with the current numbers below a table that grows by one row per epoch."""

    def __init__(self, stream: TextIO, score: Score):
        self.score = score
        # the stream is known to be a terminal; rich need not guess
        self._console = Console(file=stream, force_terminal=True, highlight=False)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(bar_width=20),
            _NumbersColumn(score),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", epoch="-", epochs="-", numbers={}, error=None)
        self._headed = False

    def open(self) -> None:
        """Show the bar."""
        self._bar.start()

    def close(self) -> None:
        """Remove the bar; the table stays."""
        self._bar.stop()

    def start(self, epochs: int, steps_per_epoch: int, done: int) -> None:
        """Set the length of the bar."""
        total = epochs * steps_per_epoch
        epoch = min(done // steps_per_epoch + 1, epochs)
        fields: dict[str, Any] = {"epoch": epoch, "epochs": epochs, "numbers": {}, "error": None}
        self._bar.reset(self._task, total=total, completed=done, **fields)

    def step(self, epoch: int, step: int, numbers: Mapping[str, float]) -> None:
        """Advance the bar; it is redrawn a few times per second, however many steps there are."""
        self._bar.update(self._task, completed=step, epoch=epoch, numbers=numbers)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Add a row to the table above the bar."""
        self._bar.update(self._task, error=largest_error(record.get("truncation_error")))
        if not self._headed:
            self._console.print(Text(header(self.score), style="bold"), soft_wrap=True)
            self._headed = True
        self._console.print(Text(row(record, self.score)), soft_wrap=True)

    def message(self, text: str) -> None:
        """Write ``text`` above the bar."""
        self._console.print(Text(text), soft_wrap=True)


class ShowProgress(Callback):
    """Callback that shows the progress of a fit on a display; only on the leader."""

    def __init__(self, display: Display):
        self.display = display

    def fit_start(self, fit: "Fit") -> None:
        """Open the display."""
        self.display.open()
        self.display.start(fit.config.epochs, fit.steps_per_epoch, fit.updater.steps)

    def step_measured(self, fit: "Fit", stats: "StepStats") -> None:
        """Show the means of the epoch so far."""
        means = fit.progress.sums.means(fit.objective.score)
        self.display.step(fit.progress.epochs_done + 1, stats.step, means)

    def epoch_end(self, fit: "Fit", record: Mapping[str, Any]) -> None:
        """Show the record of the epoch."""
        self.display.epoch(record)

    def message(self, fit: "Fit", text: str) -> None:
        """Show a line of text."""
        self.display.message(text)

    def close(self) -> None:
        """Restore the terminal."""
        self.display.close()


class _NumbersColumn(TextColumn):
    def __init__(self, score: Score):
        super().__init__("")
        self.score = score

    def render(self, task: Task) -> Text:
        numbers, error = task.fields["numbers"], task.fields["error"]
        parts = [current(numbers, self.score)] if numbers else []
        if error is not None:
            parts.append(f"trunc {error:.1e}")
        return Text("  ".join(parts))


def make_display(score: Score, quiet: bool = False, stream: TextIO | None = None) -> Display:
    """Choose the display for a stream: live on a terminal, else plain lines; silent if quiet.

    Parameters
    ----------
    score : Score
    quiet : bool
    stream : text stream, optional
        By default standard output.
    """
    if quiet:
        return Display()
    stream = sys.stdout if stream is None else stream
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return LiveDisplay(stream, score)
    return PlainDisplay(stream, score)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
