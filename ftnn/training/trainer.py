"""Trainer: training of a model, with all results in a run folder."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..encoding import Encoder
from ..layers.layer import Layer
from .callbacks import Callback, LayerProbe, MetricsFile, check_callbacks
from .config import TrainConfig
from .data import Augment, AugmentStates
from .display import ShowProgress, make_display
from .evaluation import Evaluation, evaluate_batches
from .files import json_safe, write_json
from .fit import EVALUATED_AT_ONCE, MODEL_NAME, Fit
from .growth import Growth
from .inputs import batches
from .interrupt import graceful_stop
from .module import TorchModule
from .objective import Classification, Objective
from .optimizer import resolve_device
from .preparation import Preparation
from .progress import FitResult
from .resume import restore
from .run_folder import SUMMARY_NAME, begin, locked_run
from .update import Updater
from .world import current_world


class Trainer:
    """Trainer of a model on encoded samples, which stores everything in one run folder.

    The folder holds ``metrics.jsonl`` (one JSON object per epoch), ``model.safetensors`` (the
    model to use, see :class:`FitResult`), ``summary.json``, and the checkpoint to resume from. Only
    one training run at a time may use it.

    Parameters
    ----------
    model : Layer
        Model whose output suits the objective: a classifier ends in a :class:`ftnn.Readout`. It is
        moved to torch, in place.
    encoder : Encoder or None
        Fitted encoder of the inputs; None if the data are states already.
    config : TrainConfig
    run_dir : path or None
        Created if it does not exist. If None, nothing is written.
    quiet : bool
        Whether to suppress all output.
    objective : Objective
        By default :class:`ftnn.training.Classification`; use :class:`ftnn.training.Regression` for
        numbers, :class:`ftnn.training.StateRegression` for states.
    callbacks : iterable of Callback
        Called in order, after the probe of the layers and before the line of the metrics is written
        and shown.

    Examples
    --------
    >>> import numpy as np, ftnn, tempfile
    >>> from ftnn.training import TrainConfig, Trainer, TrainingData
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(64) % 2
    >>> vectors = rng.standard_normal((64, 16)) + 2.0 * (2 * labels[:, None] - 1)
    >>> states = ftnn.MPS.from_dense(vectors, (4, 4))
    >>> model = ftnn.Sequential(ftnn.Readout((4, 4), num_outputs=2, bond_dim=4))
    >>> config = TrainConfig(epochs=3, batch_size=16, lr=0.1)
    >>> trainer = Trainer(model, None, config, tempfile.mkdtemp(), quiet=True)
    >>> result = trainer.fit(TrainingData(states, labels, states, labels))
    >>> result.outcome, len(result.history), result.val_score > 0.9
    ('completed', 3, True)
    """

    def __init__(
        self,
        model: Layer,
        encoder: Encoder | None,
        config: TrainConfig,
        run_dir: str | Path | None,
        quiet: bool = False,
        objective: Objective | None = None,
        callbacks: Iterable[Callback] = (),
    ):
        if not isinstance(model, Layer):
            raise TypeError(f"model is a {type(model).__name__}, expected an ftnn layer")
        if not isinstance(config, TrainConfig):
            raise TypeError(f"config is a {type(config).__name__}, expected a TrainConfig")
        self.objective = Classification() if objective is None else objective
        if not isinstance(self.objective, Objective):
            raise TypeError(f"objective is a {type(objective).__name__}, expected an Objective")
        if config.label_smoothing and not isinstance(self.objective, Classification):
            raise ValueError(
                f"label_smoothing is {config.label_smoothing}, but the targets are not labels; "
                "leave it at 0"
            )
        self.run_dir = None if run_dir is None else Path(run_dir)
        if self.run_dir is not None and self.run_dir.exists() and not self.run_dir.is_dir():
            raise ValueError(f"run_dir {self.run_dir} is a file; choose a folder")
        self.callbacks = check_callbacks(callbacks)
        self.encoder, self.config, self.quiet = encoder, config, quiet
        self.device = resolve_device(config.device)
        self.world = current_world()
        self.module = TorchModule(model, config.dtype, self.device, config.recompute)
        self._fit: Fit | None = None

    @property
    def model(self) -> Layer:
        """The model; after :meth:`fit`, with the weights that were kept, in evaluation mode."""
        return self.module.model

    def request_stop(self) -> None:
        """Finish the current step, checkpoint, and return from :meth:`fit`.

        May be called from a signal handler, a callback or another thread; the first Ctrl-C,
        SIGTERM or SIGHUP calls it. With several processes, a call in one is enough.
        """
        if self._fit is not None:
            self._fit.request_stop()

    def fit(
        self,
        data: Any,
        augment: Augment | None = None,
        resume: bool = False,
        overwrite: bool = False,
        augment_states: AugmentStates | None = None,
        summarize: bool = True,
    ) -> FitResult:
        """Train until the last epoch, an early stop, or a request to stop.

        Parameters
        ----------
        data : TrainingData or similar
            Has train_inputs, train_targets, val_inputs, val_targets. Encoded once.
        augment : callable, optional
            Maps images (n, height, width) and a numpy Generator to images. Applied to the training
            images anew every epoch, before they are encoded.
        augment_states : callable, optional
            Maps cores, tensors (batch, left, phys, right), and a numpy Generator to cores. Applied
            to every training batch: changes of states core by core, such as mirroring a quantics
            image, need no new encoding.
        summarize : bool
            Whether to write ``summary.json`` at the end; if not, the caller does, with
            :meth:`summary` and results of its own.
        resume : bool
            Continue from the checkpoint in the run folder. With the same data, configuration,
            machine and number of threads, the result is that of an uninterrupted run.
        overwrite : bool
            Discard an earlier run in the run folder.

        Returns
        -------
        FitResult

        Raises
        ------
        TypeError, ValueError
            For unusable data, a run folder in use, or a checkpoint that is damaged or belongs to
            another run; nothing on disk is changed in that case.
        OSError
            If the run folder cannot be written, or the disk is full; the last checkpoint stays.
        DivergenceError
            If the loss is not finite; the last checkpoint stays.
        KeyboardInterrupt
            On a second Ctrl-C.
        """
        if resume and overwrite:
            raise ValueError("resume and overwrite are both true; choose one")
        with _threads(self.config.threads):
            fit = self._fit = self._assemble(data, augment, augment_states)
            try:
                with locked_run(self.run_dir, self.world, resume):
                    if resume:
                        restore(fit)
                    else:
                        self.world.from_leader(lambda: begin(fit, overwrite))
                    return self._run(fit, summarize)
            finally:
                self._fit = None

    def evaluate(
        self, inputs: Any, targets: Any, batch_size: int = EVALUATED_AT_ONCE
    ) -> Evaluation:
        """Compute loss, score and outputs of the model.

        Parameters
        ----------
        inputs : array (n, height, width), MPS, or tuple of array (n, left, phys, right)
        targets : int array (n,), or states, as expected by the objective
        batch_size : int

        Returns
        -------
        Evaluation
        """
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}, expected an integer >= 1; try 512")
        with _threads(self.config.threads), torch.no_grad(), self.module.evaluating():
            samples = self._preparation().samples(inputs, targets, "inputs", "targets")
            return evaluate_batches(
                self.module.apply_cores, samples.on(self.device), self.objective, batch_size
            )

    def _preparation(self) -> Preparation:
        return Preparation(
            self.module, self.encoder, self.config, self.device, self.objective, self.world
        )

    def _assemble(
        self, data: Any, augment: Augment | None, augment_states: AugmentStates | None
    ) -> Fit:
        """Check and encode the data, and assemble the fit."""
        train, val = self._preparation().training(data, augment is not None)
        steps = len(batches(len(train), self.config.batch_size)) * self.config.epochs
        display = make_display(self.objective.score, self.quiet or not self.world.leads)
        growth = [Growth(self.config.grow)] if self.config.grow else []
        fit = Fit(
            config=self.config,
            objective=self.objective,
            encoder=self.encoder,
            device=self.device,
            folder=self.run_dir,
            inputs=data.train_inputs,
            train=train,
            val=val,
            augment=augment,
            augment_states=augment_states,
            updater=Updater(self.module, self.config, steps, self.world, self.objective),
            callbacks=(
                LayerProbe(),
                *growth,
                *self.callbacks,
                MetricsFile(),
                ShowProgress(display),
            ),
        )
        for one in growth:
            one.check(fit)
        return fit

    def _run(self, fit: Fit, summarize: bool) -> FitResult:
        with ExitStack() as stack:
            stack.callback(lambda: self.module.eval())
            for callback in reversed(fit.callbacks):
                stack.callback(callback.close)
            self.module.train()
            with graceful_stop(fit.request_stop) as interruption:
                try:
                    outcome = fit.run()
                finally:
                    self.module = fit.module  # callbacks may have replaced it
                result = self._finish(fit, outcome, interruption.signal)
                if summarize and self.world.leads and self.run_dir is not None:
                    write_json(self.run_dir / SUMMARY_NAME, json_safe(self.summary(result)))
                for callback in fit.callbacks:
                    callback.fit_end(fit, result)
        return result

    def _finish(self, fit: Fit, outcome: str, signal: int | None) -> FitResult:
        """Install the kept weights in the model."""
        progress = fit.progress
        if fit.kept is None:
            fit.keep()
            assert fit.kept is not None
        self.module = fit.kept.install()
        self.module.eval()
        path = None if self.run_dir is None else self.run_dir / MODEL_NAME
        return FitResult(
            outcome=outcome,
            kept="last" if fit.val is None else "best",
            best_epoch=progress.best_epoch,
            val_score=progress.best_score,
            val_loss=progress.best_loss,
            epochs=progress.epochs_done,
            steps=fit.updater.steps,
            train_seconds=progress.seconds + progress.sums.seconds,
            history=fit.history,
            model_path=path,
            signal=signal,
        )

    def summary(self, result: FitResult) -> dict[str, Any]:
        """Return the entries of a fit in ``summary.json``, before :func:`json_safe`."""
        names = (field.name for field in fields(result))
        summary = {n: getattr(result, n) for n in names if n not in ("history", "signal")}
        summary[f"val_{self.objective.score.name}"] = summary.pop("val_score")
        summary["model_path"] = MODEL_NAME
        summary["num_params"] = self.model.num_params()
        return summary


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
