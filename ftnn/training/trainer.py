"""Trainer: epochs of steps with checkpoints, metrics, a live display, and early stop."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..encoding import Encoder
from ..layers.files import save
from ..layers.layer import Layer
from .checkpoint import JSON_NAME, has_checkpoint, remove_checkpoint, write_json
from .config import TrainConfig, resolve_device
from .data import Augment, AugmentStates, Samples, batches, check_inputs, encode, taken
from .interrupt import graceful_interrupt
from .metrics import METRICS_NAME, append_metrics, json_safe, rewrite_metrics
from .module import TorchModule
from .objective import Classification, Objective
from .probe import probe
from .progress import make_display
from .run import MODEL_NAME, Run
from .state import FitResult, Sums
from .update import DivergenceError, Evaluation, StepStats, Updater, evaluate_samples, set_arrays
from .world import current_world

SUMMARY_NAME = "summary.json"


class Trainer:
    """Trains a model on encoded samples and keeps everything in one run folder.

    The folder holds ``metrics.jsonl`` (one JSON object an epoch), ``model.safetensors`` (the
    model to use, see :class:`FitResult`), ``summary.json``, and the checkpoint to resume from.

    Parameters
    ----------
    model : Layer
        Returns what the objective takes: a classifier ends in a :class:`ftnn.Readout`. It is
        moved to torch, in place.
    encoder : Encoder or None
        Fitted; turns images into states. None if the data are states from the start.
    config : TrainConfig
    run_dir : path
        Made if it does not exist.
    quiet : bool
        Show nothing.
    objective : Objective
        By default :class:`ftnn.training.Classification`; :class:`ftnn.training.StateRegression`
        learns states from states.

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
        run_dir: str | Path,
        quiet: bool = False,
        objective: Objective | None = None,
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
                f"label_smoothing is {config.label_smoothing}, but the targets are no labels; "
                "leave it at 0"
            )
        self.run_dir = Path(run_dir)
        if self.run_dir.exists() and not self.run_dir.is_dir():
            raise ValueError(f"run_dir {self.run_dir} is a file; choose a folder")
        self.encoder, self.config, self.quiet = encoder, config, quiet
        self.device = resolve_device(config.device)
        self.world = current_world()
        self.module = TorchModule(model, config.dtype, self.device, config.recompute)
        self._stop = False

    @property
    def model(self) -> Layer:
        """The model; after :meth:`fit`, with the weights that were kept, in evaluation mode."""
        return self.module.model

    def request_stop(self) -> None:
        """Finish the step in progress, checkpoint, and return from :meth:`fit`.

        May be called from a signal handler or another thread; the first Ctrl-C calls it. One of
        several processes is enough.
        """
        self._stop = True

    # ---- fit ---------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        augment: Augment | None = None,
        resume: bool = False,
        overwrite: bool = False,
        augment_states: AugmentStates | None = None,
    ) -> FitResult:
        """Train until the last epoch, early stop, or a request to stop.

        Parameters
        ----------
        data : TrainingData or alike
            Has train_inputs, train_targets, val_inputs, val_targets. Encoded once.
        augment : callable, optional
            Maps images (n, height, width) and a numpy Generator to images. Applied to the
            training images afresh every epoch, before they are encoded.
        augment_states : callable, optional
            Maps cores, tensors (batch, left, phys, right), and a numpy Generator to cores. Applied
            to every training batch: what can be done to a state core by core, such as mirroring
            a quantics image, needs no new encoding.
        resume : bool
            Go on from the checkpoint in the run folder. With the same data, configuration,
            machine and number of threads the result is that of a run never interrupted.
        overwrite : bool
            Discard an earlier run in the run folder.

        Returns
        -------
        FitResult

        Raises
        ------
        TypeError, ValueError
            For unusable data, a run folder in use, or a checkpoint that is damaged or belongs to
            something else; nothing on disk is changed then.
        DivergenceError
            If the loss is not finite; the last checkpoint stays.
        KeyboardInterrupt
            On a second Ctrl-C.
        """
        if resume and overwrite:
            raise ValueError("resume and overwrite are both true; choose one")
        self._stop = False
        with _threads(self.config.threads):
            run = self._prepare(data, augment, augment_states)
            if resume:
                run.restore()
            else:
                self.world.from_leader(lambda: self._begin(run, overwrite))
            self.module.train()
            try:
                with graceful_interrupt(self.request_stop), run.display:
                    outcome = self._epochs(run)
            finally:
                self.module.eval()
            return self._finish(run, outcome)

    def evaluate(self, inputs: Any, targets: Any, batch_size: int = 512) -> Evaluation:
        """Loss, score and outputs of the model.

        Parameters
        ----------
        inputs : array (n, height, width), MPS, or tuple of array (n, left, phys, right)
        targets : int array (n,), or states, as the objective takes them
        batch_size : int

        Returns
        -------
        Evaluation
        """
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}, expected an integer >= 1; try 512")
        with _threads(self.config.threads):
            samples = self._samples(inputs, targets, "inputs", "targets")
            return evaluate_samples(self.module, samples, batch_size, self.device, self.objective)

    def _prepare(
        self, data: Any, augment: Augment | None, augment_states: AugmentStates | None
    ) -> Run:
        val_inputs = getattr(data, "val_inputs", None)
        val_targets = getattr(data, "val_targets", None)
        if (val_inputs is None) != (val_targets is None):
            raise ValueError("give both val_inputs and val_targets, or neither")
        if self.config.patience and val_inputs is None:
            raise ValueError(
                "patience needs val_inputs and val_targets to see improvement; "
                "give them or set patience=0"
            )
        if augment is not None and not isinstance(data.train_inputs, np.ndarray):
            raise ValueError(
                "augment transforms images, but train_inputs are states; drop augment, or give "
                "images and an encoder"
            )
        train = self._samples(
            data.train_inputs,
            data.train_targets,
            "train_inputs",
            "train_targets",
            first_only=augment is not None,
        )
        val = None
        if val_inputs is not None:
            val = self._samples(val_inputs, val_targets, "val_inputs", "val_targets")
        todo = batches(len(train), self.config.batch_size)
        if self.world.size > len(todo[-1]):
            raise ValueError(
                f"batch_size is {self.config.batch_size}, and the smallest of the batches has "
                f"{len(todo[-1])} samples, for {self.world.size} processes; use larger batches or "
                "fewer processes"
            )
        steps = len(todo) * self.config.epochs
        return Run(
            folder=self.run_dir,
            config=self.config,
            inputs=data.train_inputs,
            train=train,
            val=val,
            augment=augment,
            augment_states=augment_states,
            updater=Updater(self.module, self.config, steps, self.world, self.objective),
            display=make_display(self.objective.score, self.quiet or not self.world.leads),
        )

    def _samples(
        self,
        inputs: Any,
        targets: Any,
        inputs_name: str,
        targets_name: str,
        first_only: bool = False,
    ) -> Samples:
        """Check, encode; with ``first_only`` encode one image, and leave the rest for later."""
        num_samples = None
        if first_only:
            check_inputs(inputs, self.encoder, inputs_name)
            inputs, num_samples = inputs[:1], len(inputs)
        cores = encode(inputs, self.encoder, inputs_name, self.config.dtype, self.device)
        dims = tuple(core.shape[2] for core in cores)
        if self.model.in_dims is not None and dims != self.model.in_dims:
            raise ValueError(
                f"{inputs_name} are states of phys_dims {dims}, but the model takes "
                f"{self.model.in_dims}; use the encoder the model was built for"
            )
        with torch.no_grad(), self.module.evaluating():
            output = self.module.apply_cores(tuple(core[:1].to(self.device) for core in cores))
        found = self.objective.targets(targets, num_samples or len(cores[0]), output, targets_name)
        return Samples(cores, tuple(x.to(cores[0].device) for x in found))

    def _begin(self, run: Run, overwrite: bool) -> None:
        model_path = self.run_dir / MODEL_NAME
        metrics_path = self.run_dir / METRICS_NAME
        used = has_checkpoint(self.run_dir) or model_path.exists() or metrics_path.exists()
        if used and not overwrite:
            raise ValueError(
                f"run_dir {self.run_dir} holds an earlier run; resume it (resume=True), choose "
                "another folder, or discard it (overwrite=True)"
            )
        self.run_dir.mkdir(parents=True, exist_ok=True)
        remove_checkpoint(self.run_dir)
        rewrite_metrics(self.run_dir, [])
        model_path.unlink(missing_ok=True)
        (self.run_dir / SUMMARY_NAME).unlink(missing_ok=True)
        run.checkpoint()

    # ---- the loop ----------------------------------------------------------------------------

    def _epochs(self, run: Run) -> str:
        per_epoch = run.updater.total_steps // self.config.epochs
        run.display.start(self.config.epochs, per_epoch, run.updater.steps)
        run.ticked_at = run.saved_at = time.perf_counter()
        while True:
            state = run.state
            if state.epochs_done == self.config.epochs:
                return "completed"
            stale = state.epochs_done - state.best_epoch
            if self.config.patience and stale >= self.config.patience:
                run.display.message(f"no improvement in {self.config.patience} epochs: stopping")
                return "patience"
            if self.world.any(self._stop) or not self._epoch(run):
                run.tick()
                run.checkpoint()
                run.display.message(f"stopped; checkpoint in {self.run_dir}: resume to go on")
                return "stopped"

    def _epoch(self, run: Run) -> bool:
        """One epoch, or what is left of it; False if stopped within."""
        epoch = run.state.epochs_done  # from 0
        train = self._augmented(run, epoch)
        order = np.random.default_rng((self.config.seed, epoch)).permutation(len(train))
        todo = batches(len(train), self.config.batch_size, order)
        for number, rows in list(enumerate(todo))[run.state.sums.steps :]:
            if self.world.any(self._stop):
                self._count(run)
                return False
            begun = time.perf_counter()
            cores, targets = self._batch(run, train, rows, (self.config.seed, epoch, 2, number))
            self._seed(epoch, number)
            measured = run.updater.step(cores, targets, len(rows))
            self._count(run)  # the step before, while this one is under way
            run.measured = measured
            run.state.sums.step_seconds += time.perf_counter() - begun
            period = self.config.checkpoint_seconds
            if period and time.perf_counter() - run.saved_at > period:
                self._count(run)
                run.tick()
                run.checkpoint()
        begun = time.perf_counter()
        self._count(run)
        run.state.sums.step_seconds += time.perf_counter() - begun
        self._end_epoch(run, train)
        return True

    def _count(self, run: Run) -> None:
        """Add what the last step measured to the sums of the epoch, and show it."""
        if run.measured is None:
            return
        measured, run.measured = run.measured, None
        stats, epoch, sums = measured.read(), run.state.epochs_done + 1, run.state.sums
        if not stats.finite:
            raise DivergenceError(self._divergence(stats, epoch, measured.step))
        sums.add(stats, measured.samples)
        run.display.step(epoch, measured.step, sums.means(self.objective.score))

    def _seed(self, epoch: int, number: int) -> None:
        """Seed what layers draw in a step, for itself: a resumed run draws the same."""
        seed = (self.config.seed, epoch, 3, number, self.world.rank)
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))

    def _batch(
        self, run: Run, train: Samples, rows: np.ndarray, seed: tuple[int, ...]
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Share of this process in a batch; random changes are those of the whole batch."""
        if run.augment_states is None:
            return train.take(self.world.share(rows), self.device)
        cores, targets = train.take(rows, self.device)
        cores = run.augment_states(cores, np.random.default_rng(seed))
        own = self.world.share(np.arange(len(rows)))
        return taken(cores, own, self.device), taken(targets, own, self.device)

    def _augmented(self, run: Run, epoch: int) -> Samples:
        if run.augment is None:
            return run.train
        cores = encode(
            run.inputs,
            self.encoder,
            "train_inputs",
            self.config.dtype,
            self.device,
            run.augment,
            np.random.default_rng((self.config.seed, epoch, 1)),
        )
        return Samples(cores, tuple(x.to(cores[0].device) for x in run.train.targets))

    def _end_epoch(self, run: Run, train: Samples) -> None:
        state, module = run.state, run.updater.evaluated
        found = None
        if run.val is not None:
            found = evaluate_samples(module, run.val, 512, self.device, self.objective, self.world)
        score = self.objective.score
        keep = found is None or state.improved_by(found, score)
        state.epochs_done += 1
        if keep:
            state.best_epoch = state.epochs_done
            if found is not None:
                state.best_score, state.best_loss = found.score, json_safe(found.loss)
            if self.world.leads:
                save(module.model, self.run_dir / MODEL_NAME, self.encoder)
        with module.evaluating():
            probed = self.world.from_leader(lambda: probe(module.model, (run.val or train).cores))
        run.tick()
        record: dict[str, Any] = {
            "epoch": state.epochs_done,
            "step": run.updater.steps,
            **state.sums.means(score),
            "val_loss": None if found is None else found.loss,
            f"val_{score.name}": None if found is None else found.score,
            "lr": state.sums.lr,
            "grad_norm": state.sums.grad_norm / state.sums.steps,
            "seconds": state.sums.seconds,
            "weights": "average" if run.updater.average is not None else "current",
            "kept": keep,
        }
        record = json_safe(record | probed)
        state.seconds += state.sums.seconds
        state.sums = Sums()
        run.history.append(record)
        if self.world.leads:
            append_metrics(self.run_dir, record)
        run.checkpoint()
        run.display.epoch(record)

    def _divergence(self, stats: StepStats, epoch: int, step: int) -> str:
        what = "loss" if not np.isfinite(stats.loss) else "gradient"
        clip = "" if self.config.clip_norm else ", or set clip_norm=1.0"
        return (
            f"the {what} is not finite in epoch {epoch}, step {step}: training has diverged; use "
            f"a lower lr than {self.config.lr:g}{clip}. The last good checkpoint stays in "
            f"{self.run_dir / JSON_NAME}"
        )

    # ---- the end -----------------------------------------------------------------------------

    def _finish(self, run: Run, outcome: str) -> FitResult:
        path, state = self.run_dir / MODEL_NAME, run.state
        if self.world.leads and (state.best_epoch == 0 or not path.exists()):
            save(run.updater.evaluated.model, path, self.encoder)
        kept = run.kept()
        run.check_kept(kept)
        set_arrays(self.module, kept)
        result = FitResult(
            outcome=outcome,
            kept="last" if run.val is None else "best",
            best_epoch=state.best_epoch,
            val_score=state.best_score,
            val_loss=state.best_loss,
            epochs=state.epochs_done,
            steps=run.updater.steps,
            train_seconds=state.seconds + state.sums.seconds,
            history=run.history,
            model_path=path,
        )
        summary = {o.name: getattr(result, o.name) for o in fields(result) if o.name != "history"}
        summary[f"val_{self.objective.score.name}"] = summary.pop("val_score")
        summary["model_path"] = path.name
        summary["num_params"] = self.model.num_params()
        if self.world.leads:
            write_json(self.run_dir / SUMMARY_NAME, json_safe(summary))
        return result


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
