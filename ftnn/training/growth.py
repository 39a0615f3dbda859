"""Growth: a callback by which a model grows while it trains, as a schedule says.

Where a layer is to be chosen whose weight grows, it is the one whose new entries would get the
largest gradient, by entry: for a small step of gradient descent, by which the loss falls most for a
parameter more. A larger bond of activations has no new entries: it is given to the layer that
discards most.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..chains.states import MPS
from ..layers.files import describe, rebuild
from ..layers.layer import Layer
from ..layers.surgery import Block, parameter_map
from .callbacks import Callback
from .changes import candidates, changed
from .data import encode
from .inputs import select_rows
from .module import TorchModule
from .probe import probe
from .schedule import BEST, Event, schedule

if TYPE_CHECKING:
    from .fit import Fit

PROBED = 256
"""Training samples by which a layer is chosen, and by which bonds are pruned."""

FALL = 1e-3
"""A validation loss that falls by less, relative to the lowest, has not fallen."""


class Growth(Callback):
    """Changes a model between epochs; see :func:`ftnn.training.schedule.schedule`.

    The moments of the optimizer are carried over where entries stay what they are, the learning
    rate rises again over ``warm`` epochs, every change is a message and an entry ``growth`` of the
    line of the metrics, and checkpoints hold the structure of the model.

    Parameters
    ----------
    events : str or sequence of mapping
        As :func:`ftnn.training.schedule.schedule` takes them.

    Examples
    --------
    >>> Growth("epoch=10 inflate=8; plateau=3 inflate=+2 where=best").events[0].epoch
    10
    """

    def __init__(self, events: str | Sequence[Mapping[str, Any]]):
        self.events = schedule(events)
        self.done: list[dict[str, Any]] = []
        self._description: dict[str, Any] = {}
        self._untold: list[str] = []

    def check(self, fit: "Fit") -> None:
        """Raise ``ValueError`` unless the schedule can be kept; nothing is written before."""
        epochs, patience = fit.config.epochs, fit.config.patience
        for n, event in enumerate(self.events):
            where = f"grow: event {n + 1}, {event},"
            if event.epoch is not None and event.epoch >= epochs:
                raise ValueError(
                    f"{where} comes after epoch {event.epoch}, but there are {epochs} epochs; "
                    "what grows must be trained"
                )
            if event.plateau is not None and fit.val is None:
                raise ValueError(f"{where} needs validation samples, whose loss stalls; give them")
            if event.plateau is not None and patience and event.plateau >= patience:
                raise ValueError(
                    f"{where} never comes: training stops after {patience} epochs without a better "
                    "result; raise patience above it"
                )
        self._rehearse(fit.model)

    def _rehearse(self, model: Layer) -> None:
        """Grow a copy of the model as it will be, as far as that does not depend on the data."""
        timed = [(event.epoch or 0, n) for n, event in enumerate(self.events)]
        for _, n in sorted(timed):
            event = self.events[n]
            if event.prune is not None:
                continue
            try:
                places = [candidates(model, event)[0]] if event.where == BEST else None
                grown = changed(model, event, places)[0]
            except (TypeError, ValueError, IndexError) as error:
                reason = error if not isinstance(error, IndexError) else "no layer can grow so"
                raise ValueError(f"grow: event {n + 1}, {event}: {reason}") from None
            if event.epoch is not None:
                model = grown

    def measure(self, fit: "Fit") -> Mapping[str, Any]:
        """Return the number of parameters."""
        return {"params": fit.model.num_params()}

    def epoch_end(self, fit: "Fit", record: Mapping[str, Any]) -> None:
        """Do what is due."""
        epoch = fit.progress.epochs_done
        if epoch >= fit.config.epochs:
            return
        for n, event in enumerate(self.events):
            if event.epoch == epoch or (event.plateau and self._stalls(fit, event.plateau)):
                self._change(fit, n, event)

    def step_end(self, fit: "Fit", step: int) -> None:
        """Tell what was done, behind the line of the epoch."""
        for text in self._untold:
            fit.message(text)
        self._untold = []

    def _stalls(self, fit: "Fit", patience: int) -> bool:
        """Whether the validation loss has not fallen for so many epochs since the last change."""
        since = max((one["epoch"] for one in self.done), default=0)
        losses = [record["val_loss"] for record in fit.history[since:]]
        stale, least = 0, np.inf
        for loss in losses:
            fallen = loss is not None and loss < (1 - FALL) * least
            stale, least = (0, loss) if fallen else (stale + 1, least)
        return stale >= patience

    def _change(self, fit: "Fit", number: int, event: Event) -> None:
        """Replace the model by a larger one, and tell."""
        places = None
        if event.where == BEST:
            found = fit.world.from_leader(lambda: best_place(fit, event))
            if found is None:
                return
            places = [found]
        data = MPS(probe_samples(fit)[0]) if event.prune is not None else None
        try:
            model, paths = changed(fit.model, event, places, data)
        except ValueError as error:  # after what plateaus have done: training goes on
            fit.message(f"grow: event {number + 1}, {event}, is left out: {error}")
            return
        before, after = fit.model.num_params(), model.num_params()
        if event.params is not None and after > event.params:
            return
        fit.replace_model(model, unchanged(fit.model, model, paths))
        fit.updater.rewarm(round(event.warm * fit.steps_per_epoch))
        what = " ".join(f"{name}={value}" for name, value in event.changes.items())
        place = places[0] if places else event.where
        at = f" in layer {place}" if place else ""
        text = f"{what}{at}: {before:,} -> {after:,} parameters"
        epoch = fit.progress.epochs_done
        self.done.append({"epoch": epoch, "event": number, "text": text})
        self._description = describe(fit.model)
        fit.history[-1].setdefault("growth", []).append(text)
        self._untold.append(f"after epoch {epoch}: {text}")

    def state(self) -> dict[str, Any]:
        """Return what was done, and the structure of the model."""
        return {"done": self.done, "model": self._description} if self.done else {}

    def load_state(self, fit: "Fit", state: dict[str, Any]) -> None:
        """Give the model its structure again; its weights follow."""
        self.done, self._description = list(state["done"]), state["model"]
        model = rebuild(self._description)
        fit.replace_model(model, parameter_map(fit.model, model))


def unchanged(old: Layer, new: Layer, paths: Mapping[str, str]) -> dict[str, Block]:
    """Return where old entries are in new arrays; not of those that are in another gauge or order.

    Their moments would be those of other entries.
    """
    before, after = old.named_params(), new.named_params()
    return {
        name: block
        for name, block in parameter_map(old, new, paths).items()
        if torch.equal(after[name][block.target], before[block.name][block.source])
    }


# ---- where ---------------------------------------------------------------------------------------


def best_place(fit: "Fit", event: Event) -> str | None:
    """Return the layer that is to grow, or None if none can."""
    cores, targets = probe_samples(fit)
    scores: dict[str, float] = {}
    if event.max_bond is not None:
        with fit.module.evaluating():
            scores = probe(fit.model, cores)["truncation_error"]
    for path in candidates(fit.model, event):
        model = changed(fit.model, event, [path])[0]
        if event.params is not None and model.num_params() > event.params:
            scores.pop(path, None)
        elif event.max_bond is None:
            scores[path] = new_gradient(fit, model, cores, targets)
    return max(scores, key=scores.__getitem__, default=None)


def new_gradient(fit: "Fit", model: Layer, cores: Any, targets: Any) -> float:
    """Return the mean square of the gradient of the entries that a model has more."""
    blocks = parameter_map(fit.model, model)
    module = TorchModule(model, fit.config.dtype, fit.device)
    module.eval()
    losses, _ = fit.objective.measure(module.apply_cores(cores), targets, 0.0)
    named = {name.replace(":", "."): p for name, p in module.named_parameters()}
    gradients = torch.autograd.grad(losses.mean(), list(named.values()), allow_unused=True)
    total, count = 0.0, 0
    for name, gradient in zip(named, gradients, strict=True):
        if gradient is None:
            continue
        squares = gradient.abs().double().square()
        size = squares.numel()
        if name in blocks:
            old = squares[blocks[name].target]
            total, size = total - float(old.sum()), size - old.numel()
        total, count = total + float(squares.sum()), count + size
    return total / max(count, 1)


def probe_samples(fit: "Fit") -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Return some training samples, the same in every process and in a resumed run."""
    count = len(fit.train.targets[0])
    rng = np.random.default_rng((fit.config.seed, fit.progress.epochs_done, 4))
    rows = rng.permutation(count)[:PROBED]
    if fit.augment is None:
        return fit.train.take(rows, fit.device)
    inputs = select_rows(fit.inputs, rows)
    cores = encode(inputs, fit.encoder, "train_inputs", fit.config.dtype, fit.device)
    targets = tuple(x[torch.from_numpy(rows).to(x.device)] for x in fit.train.targets)
    return cores, tuple(x.to(fit.device) for x in targets)
