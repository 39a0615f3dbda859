"""Fit: a training run in progress, by epochs and steps."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..encoding import Encoder
from ..layers.files import save
from ..layers.layer import Layer
from ..layers.surgery import Block
from .callbacks import Callback, states_of
from .checkpoint import save_checkpoint
from .config import TrainConfig
from .data import Augment, AugmentStates, Samples, fingerprint
from .evaluation import Evaluation, evaluate_batches
from .feed import epoch_samples, seed_step, share_of_batch
from .files import json_safe
from .inputs import batches
from .module import TorchModule
from .objective import Objective
from .progress import Progress, Sums
from .record import describe_divergence, epoch_record
from .step_stats import DivergenceError, PendingStats
from .update import Updater
from .weights import Kept
from .world import World

MODEL_NAME = "model.safetensors"
EVALUATED_AT_ONCE = 512


@dataclass(eq=False)
class Fit:
    """A training run in progress; passed to callbacks.

    Attributes
    ----------
    config : TrainConfig
    objective : Objective
    encoder : Encoder or None
    device : str
    folder : Path or None
        Run folder; None if nothing is written.
    inputs : array, MPS or tuple of array
        Training inputs as passed to the trainer.
    train, val : Samples
        With augmentation, ``train`` holds one encoded sample and all targets; ``val`` may be None.
    augment, augment_states : callable or None
    updater : Updater
    callbacks : tuple of Callback
    progress : Progress
    history : list of dict
        Metrics, one record per epoch.
    kept : Kept or None
        Weights to keep; None before the end of the first epoch.
    seen : Samples or None
        Training samples of the epoch that has ended, while callbacks measure.
    """

    config: TrainConfig
    objective: Objective
    encoder: Encoder | None
    device: str
    folder: Path | None
    inputs: Any
    train: Samples
    val: Samples | None
    augment: Augment | None
    augment_states: AugmentStates | None
    updater: Updater
    callbacks: tuple[Callback, ...] = ()
    progress: Progress = field(default_factory=Progress)
    history: list[dict[str, Any]] = field(default_factory=list)
    kept: Kept | None = None
    seen: Samples | None = field(default=None, init=False)
    _stop: bool = field(default=False, init=False)
    _finished: bool = field(default=False, init=False)
    _pending: PendingStats | None = field(default=None, init=False)
    _saved_at: float = field(default=0.0, init=False)
    _ticked_at: float = field(default=0.0, init=False)

    @property
    def module(self) -> TorchModule:
        """The module that is trained."""
        return self.updater.module

    @property
    def model(self) -> Layer:
        """The model that is trained."""
        return self.module.model

    @property
    def world(self) -> World:
        """The processes that train together; only the leader reads and writes the folder."""
        return self.updater.world

    @property
    def steps_per_epoch(self) -> int:
        """Number of updates in an epoch."""
        return self.updater.total_steps // self.config.epochs

    # ---- for callbacks -----------------------------------------------------------------------

    def request_stop(self) -> None:
        """Stop after the current step and a checkpoint; a request by one process is enough."""
        self._stop = True

    @property
    def stop_requested(self) -> bool:
        """Whether this process has been asked to stop; callbacks that take long may look."""
        return self._stop

    def finish(self) -> None:
        """Complete the fit without further epochs; called by callbacks of all processes."""
        self._finished = True

    def message(self, text: str) -> None:
        """Pass a line of text to all callbacks, such as the display."""
        for callback in self.callbacks:
            callback.message(self, text)

    def replace_model(self, model: Layer, blocks: Mapping[str, Block]) -> None:
        """Continue with another model, such as one that has grown; see :meth:`Updater.replace`.

        Parameters
        ----------
        model : Layer
            Model with the same inputs and outputs. Moved to torch, in place.
        blocks : mapping of str to Block
            Places of old parameters in the new ones, by dotted path, as returned by
            :func:`ftnn.layers.surgery.parameter_map`.
        """
        for name in ("in_dims", "out_dims"):
            new, old = getattr(model, name), getattr(self.model, name)
            if new != old:
                raise ValueError(f"the new model has {name} {new}, expected {old}")
        module = TorchModule(model, self.config.dtype, self.device, self.config.recompute)
        module.train(self.module.training)
        self.updater.replace(module, blocks)
        self.progress.replacements += 1

    # ---- the loop ----------------------------------------------------------------------------

    def run(self) -> str:
        """Train until the last epoch, an early stop, or a request to stop; return which."""
        for callback in self.callbacks:
            callback.fit_start(self)
        self._ticked_at = self._saved_at = time.perf_counter()
        while True:
            progress = self.progress
            if self._finished or progress.epochs_done == self.config.epochs:
                return "completed"
            stale = progress.epochs_done - progress.best_epoch
            if self.config.patience and stale >= self.config.patience:
                self.message(f"no improvement in {self.config.patience} epochs: stopping")
                return "patience"
            if self.world.any(self._stop) or not self._epoch():
                self._tick()
                self.checkpoint()
                hint = f"; checkpoint in {self.folder}: resume to continue"
                self.message("stopped" + ("" if self.folder is None else hint))
                return "stopped"

    def _epoch(self) -> bool:
        """Train for an epoch, or the rest of it; return False if stopped within."""
        epoch = self.progress.epochs_done  # from 0
        train = epoch_samples(self)
        order = np.random.default_rng((self.config.seed, epoch)).permutation(len(train))
        todo = batches(len(train), self.config.batch_size, order)
        for number, rows in list(enumerate(todo))[self.progress.sums.steps :]:
            if self.world.any(self._stop):
                self._read_pending()
                return False
            begun = time.perf_counter()
            cores, targets = share_of_batch(self, train, rows, number)
            seed_step(self, number)
            pending = self.updater.step(cores, targets, len(rows))
            self._read_pending()  # of the step before, while this one is under way
            self._pending = pending
            self.progress.sums.step_seconds += time.perf_counter() - begun
            for callback in self.callbacks:
                callback.step_end(self, pending.step)
            period = self.config.checkpoint_seconds
            if period and time.perf_counter() - self._saved_at > period:
                self._read_pending()
                self._tick()
                self.checkpoint()
        begun = time.perf_counter()
        self._read_pending()
        self.progress.sums.step_seconds += time.perf_counter() - begun
        self._end_epoch(train)
        return True

    def _read_pending(self) -> None:
        """Read the statistics of the last step, unless already read, and accumulate them."""
        if self._pending is None:
            return
        stats, self._pending = self._pending.read(), None
        if not stats.finite:
            raise DivergenceError(describe_divergence(self, stats))
        self.progress.sums.add(stats)
        for callback in self.callbacks:
            callback.step_measured(self, stats)

    # ---- the end of an epoch -----------------------------------------------------------------

    def _end_epoch(self, train: Samples) -> None:
        """Evaluate, keep the weights if they are the best, record, checkpoint."""
        progress, score = self.progress, self.objective.score
        result = None if self.val is None else self.evaluate(self.val)
        keep = result is None or progress.improved_by(result, score)
        progress.epochs_done += 1
        if keep:
            progress.best_epoch = progress.epochs_done
            if result is not None:
                progress.best_score, progress.best_loss = result.score, json_safe(result.loss)
            self.keep()
        self.seen = train
        measured = self.world.from_leader(self._measure)
        self.seen = None
        self._tick()
        record = json_safe(epoch_record(self, result, keep) | measured)
        progress.seconds += progress.sums.seconds
        progress.sums = Sums()
        self.history.append(record)
        for callback in self.callbacks:
            callback.epoch_end(self, record)
        self.checkpoint()

    def evaluate(self, samples: Samples) -> Evaluation:
        """Evaluate the module, or its running average, on samples; all processes take part."""
        module = self.updater.evaluated
        with torch.no_grad(), module.evaluating():
            return evaluate_batches(
                module.apply_cores,
                samples.on(self.device),
                self.objective,
                EVALUATED_AT_ONCE,
                self.world,
            )

    def keep(self) -> None:
        """Keep the current weights, and save them."""
        evaluated = self.updater.evaluated
        self.kept = Kept.copy(self.module, evaluated)
        if self.world.leads and self.folder is not None:
            save(evaluated.model, self.folder / MODEL_NAME, self.encoder)

    def _measure(self) -> dict[str, Any]:
        measured: dict[str, Any] = {}
        for callback in self.callbacks:
            measured |= callback.measure(self)
        return measured

    def _tick(self) -> None:
        """Add the time since the last tick to that of the current epoch."""
        now = time.perf_counter()
        self.progress.sums.seconds += now - self._ticked_at
        self._ticked_at = now

    # ---- checkpoints -------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Save everything that the rest of the fit depends on."""
        if self.world.leads and self.folder is not None:
            save_checkpoint(self.folder, self.state(), self.updater.steps)
        self._saved_at = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Return the contents of a checkpoint: a tree of tensors, numbers and strings."""
        return {
            "training": asdict(self.progress),
            "metrics_lines": len(self.history),
            "config": asdict(self.config),
            "data": self.describe_data(),
            "update": self.updater.state(),
            "callbacks": states_of(self.callbacks),
        }

    def describe_data(self) -> dict[str, Any]:
        """Describe the samples, so that a resumed run detects different ones."""
        return {
            "train": len(self.train),
            "val": 0 if self.val is None else len(self.val),
            "targets": [fingerprint(x) for x in self.train.targets],
            "augment": self.augment is not None,
            "augment_states": self.augment_states is not None,
        }
