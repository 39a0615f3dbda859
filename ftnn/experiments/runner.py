"""Run an experiment: prepare, train in one stage or in several, summarize, draw."""

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..encoding import Encoder
from ..interpret.report import LayerRow, layer_report, log10_compression
from ..layers.files import save
from ..layers.layer import Layer
from ..training.options import replace_values
from .experiment import Experiment
from .folder import (
    START,
    SUMMARY,
    can_resume,
    check_free,
    check_same_options,
    has_begun,
    load_options,
    read_summary,
    stage_path,
    write_config,
)
from .registry import get_experiment
from .setup import Setup, check_torch, objective_for, prepare, start_with
from .summary import class_report, confusion_matrix, sample_cores, versions

if TYPE_CHECKING:
    from ..training import Callback, FitResult, Trainer
    from ..training.score import Score
    from ..training.world import World

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Result:
    """Result of a run.

    Attributes
    ----------
    folder : Path
    outcome : {"completed", "patience", "stopped"}
        All epochs done; no improvement for ``patience`` epochs; stopped by a signal, resumable.
    experiment : Experiment
    options : dataclass of options
    model : Layer
        The kept model, on NumPy; for a stopped run the model in training.
    encoder : Encoder or None
    score : Score
    summary : dict
        Contents of ``summary.json``; empty if stopped, and in all processes but the leader.
    report : tuple of LayerRow
        One row per layer; empty in the same cases.
    history : list of dict
        Metrics of the last stage, one record per epoch.
    signal : int or None
        Number of the signal that stopped training, such as SIGTERM; None if none did.
    """

    folder: Path
    outcome: str
    experiment: Experiment
    options: Any
    model: Layer
    encoder: Encoder | None
    score: "Score"
    summary: dict[str, Any] = field(default_factory=dict)
    report: tuple[LayerRow, ...] = ()
    history: list[dict[str, Any]] = field(default_factory=list)
    signal: int | None = None


def run(
    experiment: Experiment | str,
    options: Any = None,
    folder: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    callbacks: "Iterable[Callback]" = (),
) -> Result:
    """Train an experiment into a run folder, and evaluate it on its test set.

    This is ``ftnn train``. Under torchrun the processes share every batch.

    Parameters
    ----------
    experiment : Experiment or str
        An experiment or its name.
    options : dataclass of options, optional
        Options of the experiment; by default the tuned ones, or those of the resumed run.
    folder : path
        Run folder; created if it does not exist.
    resume : bool
        Continue an interrupted run in the folder, with the same result.
    quiet : bool
        Whether to show neither set-up nor progress.
    callbacks : iterable of ftnn.training.Callback
        Called by the trainer, in every stage.

    Returns
    -------
    Result

    Raises
    ------
    TypeError, ValueError
        If an option is invalid, the folder holds a run already, or the run to resume was trained
        with other options.
    FileNotFoundError
        If the data cannot be found, or there is no run to resume.

    Examples
    --------
    >>> import tempfile
    >>> from ftnn.experiments import get_experiment, run
    >>> from ftnn.training.options import replace_values
    >>> digits = get_experiment("digits")
    >>> options = replace_values(digits.tuned_options(quick=True), {"limit": 100, "epochs": 1})
    >>> result = run(digits, options, tempfile.mkdtemp(), quiet=True)
    >>> result.outcome, result.summary["test_samples"]
    ('completed', 450)
    """
    experiment = get_experiment(experiment) if isinstance(experiment, str) else experiment
    if folder is None:
        raise ValueError("folder is None, expected the path of a run folder, such as 'runs/mine'")
    run_dir, saved = Path(folder), None
    if resume:
        saved = _options_to_resume(experiment, run_dir)
    else:
        check_free(run_dir)
    if options is None:
        options = saved if resume else experiment.tuned_options()
    experiment.check(options)
    check_torch()
    if resume:
        check_same_options(run_dir, saved, options)
    from ..measure.memory import keep_freed_memory
    from ..training.world import joined_world

    keep_freed_memory()
    with joined_world() as world, ExitStack() as stack:
        run_dir = world.from_leader(lambda: run_dir)  # its name may be the time
        job = _Job(world, stack, experiment, options, run_dir, quiet, tuple(callbacks))
        return job.run()


def _options_to_resume(experiment: Experiment, folder: Path) -> Any:
    """Load the options of a run of this experiment, or raise an error if it cannot be resumed."""
    own, options = load_options(folder, experiment)
    if own.name != experiment.name:
        raise ValueError(f"{folder} is a run of {own.name}, not of {experiment.name}")
    if not has_begun(folder):
        raise ValueError(f"{folder} has no checkpoint.json to resume from")
    return options


@dataclass(eq=False)
class _Job:
    """A run in progress: the state shared by its stages."""

    world: "World"
    stack: ExitStack
    experiment: Experiment
    options: Any
    folder: Path
    quiet: bool
    callbacks: "tuple[Callback, ...]"
    begun: bool = False

    def run(self) -> Result:
        """Train stage after stage; the test set is used at the end of the last one."""
        experiment, stages = self.experiment, self.stages()
        places = [*(stage_path(self.folder, n) for n in range(1, len(stages))), self.folder]
        ahead: dict[int, Setup] = {}
        if not self.from_leader(lambda: has_begun(self.folder)) and len(stages) > 1:
            with self.world.leader_first():  # report errors of later stages now
                ahead = {n: prepare(experiment, stage) for n, stage in enumerate(stages)}
            self.from_leader(lambda: self.begin())
        at = self.from_leader(lambda: _latest(places))
        given = {"start": str(places[at - 1])} if at else {}
        setup = ahead.pop(at, None) or self.prepared(replace_values(stages[at], given), places[at])
        seconds = sum(read_summary(place)["train_seconds"] for place in places[:at])
        for n in range(at, len(stages) - 1):
            trainer, fitted = self.fit(setup, places[n])
            if fitted.outcome == "stopped":
                return _result(setup, trainer, fitted, self.folder)
            seconds += fitted.train_seconds
            following = ahead.pop(n + 1, None) or prepare(experiment, stages[n + 1])
            trained = trainer.model.to("numpy")
            model = start_with(experiment, places[n], trained, following.model)
            setup = replace(following, model=model, started=True)
        return self.last(replace(setup, options=self.options), seconds)

    def stages(self) -> tuple[Any, ...]:
        """Return the options of every stage."""
        split = self.experiment.stages
        return (split and split(self.options)) or (self.options,)

    def from_leader(self, make: Callable[[], T]) -> T:
        """Call a function on the leader, and share the result with all."""
        return self.world.from_leader(make)

    def prepared(self, options: Any, folder: Path) -> Setup:
        """Prepare a stage that trains, or has started to train, in a folder."""
        resumed = self.from_leader(lambda: can_resume(folder))
        with self.world.leader_first():
            return prepare(self.experiment, options, folder if resumed else None)

    def begin(self) -> None:
        """Create the run folder and lock it; the options have been checked."""
        from ..training.lock import locked_folder

        if self.begun:
            return
        self.begun = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"run folder {self.folder}: cannot be created ({error.strerror}); choose another "
                "with --out DIR"
            ) from None
        self.stack.enter_context(locked_folder(self.folder))
        if not has_begun(self.folder):
            write_config(self.folder, self.experiment, self.options)

    def fit(self, setup: Setup, folder: Path) -> "tuple[Trainer, FitResult]":
        """Train a stage in a folder, from its checkpoint if there is one."""
        from ..training import Trainer
        from ..training.callbacks import KeepStart

        resume = self.from_leader(lambda: can_resume(folder))
        if self.world.leads and not self.quiet:
            _show(self.world, setup, folder)
        begun = time.perf_counter()
        fit = self.experiment.fit
        if not (resume or setup.started) and fit is not None:
            setup = replace(setup, model=self.fitted(fit, setup), started=True)
        started = setup.started or (resume and self.from_leader((folder / START).is_file))
        starts = (KeepStart(time.perf_counter() - begun),) if started else ()
        experiment, train = setup.experiment, setup.stage.train
        if experiment.objective is None:
            objective = objective_for(setup.data.score)
        else:
            objective = experiment.objective(setup.stage)
        own = setup.experiment.callbacks
        further = () if own is None else own(setup.stage, setup.data)
        callbacks = (*starts, *further, *self.callbacks)
        trainer = Trainer(
            setup.model, setup.encoder, train, folder, self.quiet, objective, callbacks
        )
        self.from_leader(lambda: self.begin())
        if not resume and self.world.leads:
            if folder != self.folder:
                write_config(folder, setup.experiment, setup.options)
            if setup.started:
                save(setup.model, folder / START)
        experiment, on = setup.experiment, getattr(setup.stage, "augment", True)
        fitted = trainer.fit(
            setup.data,
            augment=experiment.augment if on else None,
            augment_states=experiment.augment_states if on else None,
            resume=resume,
            summarize=folder != self.folder,
        )
        return trainer, fitted

    def fitted(self, fit: Callable[..., Layer], setup: Setup) -> Layer:
        """Fit the new model to the training samples without gradients; the leader does."""
        show = _ignore if self.quiet else _show_text
        arguments = (setup.stage, setup.data, setup.model, show)
        arrays = self.from_leader(lambda: fit(*arguments).named_arrays())
        setup.model.set_arrays(arrays)
        return setup.model

    def last(self, setup: Setup, earlier_seconds: float) -> Result:
        """Train the last stage and summarize."""
        trainer, fitted = self.fit(setup, self.folder)
        result = _result(setup, trainer, fitted, self.folder)
        if fitted.outcome != "stopped" and self.world.leads:
            result = _summarize(setup, trainer, fitted, result, earlier_seconds)
        self.world.wait()
        return result


def _latest(places: list[Path]) -> int:
    """Return the number, from 0, of the latest stage that can be resumed; 0 if none can."""
    return max((n for n, place in enumerate(places) if can_resume(place)), default=0)


def _show(world: "World", setup: Setup, folder: Path) -> None:
    from .display import console, setup_line, setup_table

    out = console()
    out.print(setup_table(setup), setup_line(setup), f"run folder {folder}", sep="\n")
    if world.size > 1:
        out.print(f"{world.size} processes share every batch")


def _show_text(text: str) -> None:
    from .display import console

    console().print(text)


def _ignore(text: str) -> None:
    pass


def _result(setup: Setup, trainer: "Trainer", fitted: "FitResult", folder: Path) -> Result:
    return Result(
        folder,
        fitted.outcome,
        setup.experiment,
        setup.options,
        trainer.model,
        setup.encoder,
        trainer.objective.score,
        history=fitted.history,
        signal=fitted.signal,
    )


def _summarize(
    setup: Setup, trainer: "Trainer", fitted: "FitResult", result: Result, earlier_seconds: float
) -> Result:
    """Evaluate the kept model on the test set, once; write summary and figures."""
    from ..training.files import json_safe, write_json
    from .figures import draw_figures

    experiment, data, folder, score = setup.experiment, setup.data, result.folder, result.score
    inputs, targets = data.split("test")
    evaluation = trainer.evaluate(inputs, targets)
    model = trainer.model.to("numpy")
    report = layer_report(model, sample_cores(setup.encoder, data))
    about: dict[str, Any] = {
        "experiment": experiment.name,
        f"test_{score.name}": evaluation.score,
        "test_loss": evaluation.loss,
        "test_samples": data.size("test"),
        "num_params": model.num_params(),
        "log10_compression": log10_compression(report),
        "samples_per_s": float(np.median([m["samples_per_s"] for m in fitted.history] or [0.0])),
        "device": trainer.device,
        "seed": setup.options.train.seed,
        "versions": versions(),
    }
    if earlier_seconds:
        about["earlier_seconds"] = earlier_seconds
    if data.class_names:
        matrix = confusion_matrix(targets, evaluation.predictions, len(data.class_names))
        about |= {"confusion": matrix, "class_names": list(data.class_names)}
    if experiment.conclude is not None:
        about |= experiment.conclude(folder, setup.options, data, model, evaluation)
    summary = json_safe(trainer.summary(fitted) | about)
    write_json(folder / SUMMARY, summary)
    states = class_report(model, setup.encoder, data)
    draw_figures(folder, model, fitted.history, summary, report, states, data.class_names, score)
    return replace(result, model=model, summary=summary, report=report)
