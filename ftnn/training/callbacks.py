"""Callbacks: what takes part in a fit, step by step and epoch by epoch."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .metrics import append_metrics
from .probe import probe

if TYPE_CHECKING:
    from .fit import Fit
    from .progress import FitResult
    from .update import StepStats


class Callback:
    """A part of a fit; override what is needed.

    Every hook gets the :class:`ftnn.training.fit.Fit` in progress: its ``model``, ``progress``,
    ``history``, ``updater``, ``folder`` and ``world``, ``request_stop()``, ``message(text)`` and
    ``replace_model(model, blocks)``. Hooks are called on every process, in the order of the
    callbacks, and must do the same to the model on all of them; what writes or shows does so
    where ``fit.world.leads``.

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
        """Name in checkpoints; only one callback of a name may have a state."""
        return type(self).__name__

    def fit_start(self, fit: "Fit") -> None:
        """Begin: everything is checked and restored, no step is made yet."""

    def step_end(self, fit: "Fit", step: int) -> None:
        """Follow an update, before the next one.

        On a GPU the step is queued, not done: reading a number of the model here makes the host
        wait for it. The numbers of the step come with :meth:`step_measured`.

        Parameters
        ----------
        fit : Fit
        step : int
            From 1, over all epochs.
        """

    def step_measured(self, fit: "Fit", stats: "StepStats") -> None:
        """Take note of the numbers of a step; the next one may be under way.

        Parameters
        ----------
        fit : Fit
        stats : StepStats
            Loss, score, norm of the gradient and learning rate of step ``stats.step``.
        """

    def measure(self, fit: "Fit") -> Mapping[str, Any]:
        """Return more for the record of an epoch, as JSON types; called on the leader alone."""
        return {}

    def epoch_end(self, fit: "Fit", record: Mapping[str, Any]) -> None:
        """Take note of an epoch, before its checkpoint is written.

        Parameters
        ----------
        fit : Fit
        record : mapping
            Line of ``metrics.jsonl``.
        """

    def message(self, fit: "Fit", text: str) -> None:
        """Take note of a line of text, such as why a fit stops."""

    def fit_end(self, fit: "Fit", result: "FitResult") -> None:
        """Take note of the result; the model has the weights that are kept."""

    def close(self) -> None:
        """Release what was opened; always called at the end, also after an error."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint is to hold: a tree of tensors, numbers and text."""
        return {}

    def load_state(self, fit: "Fit", state: dict[str, Any]) -> None:
        """Go back to a state, before the weights of the checkpoint are loaded.

        A callback that replaced the model replaces it again, so that the weights fit.
        """


class LayerProbe(Callback):
    """Truncation errors, bond dimensions and entropies by layer, on a few samples every epoch."""

    def measure(self, fit: "Fit") -> Mapping[str, Any]:
        """Probe the model that is evaluated."""
        module = fit.updater.evaluated
        with module.evaluating():
            return probe(module.model, (fit.val or fit.seen or fit.train).cores)


class MetricsFile(Callback):
    """One line of ``metrics.jsonl`` an epoch."""

    def epoch_end(self, fit: "Fit", record: Mapping[str, Any]) -> None:
        """Add a line."""
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
            raise ValueError(
                f"two callbacks with a state are called {callback.name!r}; give them other names"
            )
        if state:
            states[callback.name] = state
    return states


def load_states(callbacks: Iterable[Callback], fit: "Fit", states: Mapping[str, Any]) -> None:
    """Give every callback the state that is saved under its name.

    Raises
    ------
    ValueError
        If there is a state of a callback that is not there.
    """
    by_name = {callback.name: callback for callback in callbacks}
    missing = sorted(states.keys() - by_name.keys())
    if missing:
        raise ValueError(
            f"it was trained with the callback {missing[0]}, whose state it holds; resume with it"
        )
    for name, state in states.items():
        by_name[name].load_state(fit, state)
