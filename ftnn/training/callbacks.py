"""Callbacks: hooks into a fit, called at every step and every epoch."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .files import json_safe
from .metrics import append_metrics
from .probe import probe

if TYPE_CHECKING:
    from .fit import Fit
    from .progress import FitResult
    from .step_stats import StepStats


class Callback:
    """Base class of callbacks; override the hooks you need.

    Every hook gets the :class:`ftnn.training.fit.Fit` in progress: its ``model``, ``progress``,
    ``history``, ``updater``, ``folder`` and ``world``, ``request_stop()``, ``message(text)`` and
    ``replace_model(model, blocks)``. Hooks are called on every process, in the order of the
    callbacks, and must change the model identically on all of them; write or display only where
    ``fit.world.leads``.

    Examples
    --------
    >>> class StopAt(Callback):
    ...     def __init__(self, loss):
    ...         self.loss = loss
    ...
    ...     def epoch_end(self, fit, record):
    ...         if record["train_loss"] < self.loss:
    ...             fit.request_stop()
    """

    @property
    def name(self) -> str:
        """Name in checkpoints; names of callbacks with a state must be unique."""
        return type(self).__name__

    def fit_start(self, fit: "Fit") -> None:
        """Handle the start of a fit: everything is checked and restored, no step has been taken."""

    def step_end(self, fit: "Fit", step: int) -> None:
        """Handle the end of a step, before the next one.

        On a GPU the step is queued, not finished: reading values of the model here synchronizes.
        :meth:`step_measured` gets the statistics of the step.

        Parameters
        ----------
        fit : Fit
        step : int
            From 1, over all epochs.
        """

    def step_measured(self, fit: "Fit", stats: "StepStats") -> None:
        """Handle the statistics of a step; the next one may already be running.

        Parameters
        ----------
        fit : Fit
        stats : StepStats
            Loss, score, norm of the gradient and learning rate of step ``stats.step``.
        """

    def measure(self, fit: "Fit") -> Mapping[str, Any]:
        """Return additional entries of an epoch's record, as JSON types; only on the leader."""
        return {}

    def epoch_end(self, fit: "Fit", record: Mapping[str, Any]) -> None:
        """Handle the end of an epoch, before its checkpoint is written.

        Parameters
        ----------
        fit : Fit
        record : mapping
            The line of ``metrics.jsonl``.
        """

    def message(self, fit: "Fit", text: str) -> None:
        """Handle a line of text, such as the reason for stopping."""

    def fit_end(self, fit: "Fit", result: "FitResult") -> None:
        """Handle the result of the fit; the model has the kept weights."""

    def close(self) -> None:
        """Release resources; always called at the end, also after an error."""

    def state(self) -> dict[str, Any]:
        """Return the state for checkpoints: a tree of tensors, numbers and strings."""
        return {}

    def load_state(self, fit: "Fit", state: dict[str, Any]) -> None:
        """Restore a state, before the weights of the checkpoint are loaded.

        A callback that replaced the model must replace it again, so that the weights fit.
        """


class KeepStart(Callback):
    """The start of a fit counts: its weights are kept until an epoch is better on validation.

    Parameters
    ----------
    seconds : float
        What it took to make the start; counts as training.
    """

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds

    def fit_start(self, fit: "Fit") -> None:
        """Evaluate the start, unless the fit is resumed."""
        progress = fit.progress
        if progress.epochs_done or progress.sums.steps:
            return
        progress.seconds += self.seconds
        if fit.val is not None:
            result = fit.evaluate(fit.val)
            progress.best_score, progress.best_loss = result.score, json_safe(result.loss)
            fit.keep()

    def state(self) -> dict[str, Any]:
        """Return the seconds: the fit may be stopped before they are counted."""
        return {"seconds": self.seconds}

    def load_state(self, fit: "Fit", state: dict[str, Any]) -> None:
        """Restore the seconds."""
        self.seconds = state["seconds"]


class LayerProbe(Callback):
    """Truncation errors, bond dimensions and entropies by layer, on a few samples every epoch."""

    def measure(self, fit: "Fit") -> Mapping[str, Any]:
        """Evaluate the probe on the model that is evaluated."""
        module = fit.updater.evaluated
        with module.evaluating():
            return probe(module.model, (fit.val or fit.seen or fit.train).cores)


class MetricsFile(Callback):
    """One line of ``metrics.jsonl`` per epoch."""

    def epoch_end(self, fit: "Fit", record: Mapping[str, Any]) -> None:
        """Append a line."""
        if fit.world.leads and fit.folder is not None:
            append_metrics(fit.folder, dict(record))


def check_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    """Return callbacks as a tuple, or raise ``TypeError`` or ``ValueError``."""
    given = tuple(callbacks)
    for callback in given:
        if not isinstance(callback, Callback):
            hint = "; make an instance" if isinstance(callback, type) else ""
            raise TypeError(
                f"callbacks holds {callback!r:.80}, expected ftnn.training.Callback objects{hint}"
            )
    return given


def states_of(callbacks: Iterable[Callback]) -> dict[str, Any]:
    """Return the states of those callbacks that have one, by name."""
    states: dict[str, Any] = {}
    for callback in callbacks:
        state = callback.state()
        if state and callback.name in states:
            raise ValueError(f"two callbacks with a state are called {callback.name!r}; rename one")
        if state:
            states[callback.name] = state
    return states


def load_states(callbacks: Iterable[Callback], fit: "Fit", states: Mapping[str, Any]) -> None:
    """Restore every callback from the state saved under its name.

    Raises
    ------
    ValueError
        If the callback of a saved state is missing.
    """
    by_name = {callback.name: callback for callback in callbacks}
    missing = sorted(states.keys() - by_name.keys())
    if missing:
        raise ValueError(
            f"it was trained with the callback {missing[0]}, whose state it holds; resume with it"
        )
    for name, state in states.items():
        by_name[name].load_state(fit, state)
