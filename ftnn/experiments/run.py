"""Runs of an experiment: prepare, train, summarize, draw; and load one again.

A run folder holds ``config.json``, ``metrics.jsonl``, ``model.safetensors`` (with the encoder),
the checkpoint to resume from, ``summary.json``, the figures, and ``start.safetensors`` where it
started with the weights of another run.
"""

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays.backend import check_backend, convert
from ..chains.terms import Cores
from ..encoding import Encoder
from ..interpret.report import (
    LayerRow,
    StateRow,
    entanglement_report,
    layer_report,
    log10_compression,
)
from ..layers.files import load, load_encoder, save
from ..layers.layer import Layer
from ..layers.sequential import Sequential
from ..nonlinear import KAN
from . import get_experiment
from .base import Config, Data, Experiment, from_dict, rows

if TYPE_CHECKING:
    from ..training import FitResult, Objective, TrainConfig, Trainer

START = "start.safetensors"
"""File of a run with the model it started with, where that is not a new one."""

FIRST = "coarse"
"""Folder in that of a run with the run before it, where training has two stages."""

SAMPLES = 32
"""Validation samples that a report looks at."""

SAMPLES_OF_CLASS = 20
"""Validation samples of every class that a report by class looks at."""


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything a training needs, checked and ready.

    ``config`` is that of the whole run; ``train_config``, the data and the model are those of a
    stage of it, which may have ``started`` with the weights of another run.
    """

    experiment: Experiment
    config: Config
    train_config: "TrainConfig"
    data: Data
    encoder: Encoder | None
    model: Layer
    started: bool


def prepare(experiment: Experiment, config: Config, run_dir: Path | None = None) -> Setup:
    """Check a configuration, load the data, build encoder and model.

    Parameters
    ----------
    experiment : Experiment
    config : Config
    run_dir : Path, optional
        Run to resume: it keeps what it started with, whatever became of the run it is from.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If an option is wrong, torch is missing, or the data are nowhere.
    """
    check_torch()
    from ..training import TrainConfig
    from ..training.config import resolve_device

    names = [option.name for option in fields(TrainConfig)]
    train_config = TrainConfig(**{name: getattr(config, name) for name in names})
    resolve_device(config.device)
    experiment.check(config)
    data = experiment.load(config)
    encoder, model = experiment.build(config, data)
    if config.start is not None:
        model = started(experiment, config.start if run_dir is None else run_dir / START, model)
    start = config.start is not None
    return Setup(experiment, config, train_config, data, encoder, model, start)


def started(experiment: Experiment, start: str | Path, built: Layer) -> Layer:
    """Model to train that has the weights of another, of which ``start`` is the run or the file.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, or its network is not that of the options.
    """
    path = Path(start)
    try:
        trained = load(path / "model.safetensors" if path.is_dir() else path)
    except FileNotFoundError:
        raise FileNotFoundError(f"start is {str(start)!r}, but there is no model") from None
    except ValueError as error:
        raise ValueError(f"start is {str(start)!r}: {error}") from None
    try:
        if experiment.carry is not None:
            return experiment.carry(trained, built)
        arrays = trained.named_arrays()
        missing = built.named_arrays().keys() - arrays.keys()
        if missing:
            raise ValueError(f"it has no array {min(missing)!r}")
        built.set_arrays(arrays)
    except ValueError as error:
        raise ValueError(
            f"start is {str(start)!r}, whose network does not fit: {error}; "
            "give the options it was trained with"
        ) from None
    return built


def check_torch() -> None:
    """Raise ``ValueError`` where torch, which trains, is not installed."""
    check_backend("torch")


def check_free(run_dir: Path) -> None:
    """Raise ``ValueError`` if training into this folder would overwrite a run."""
    taken = next((path for path in (run_dir, *run_dir.parents) if path.exists()), run_dir)
    if taken.exists() and not taken.is_dir():
        raise ValueError(f"{taken} is a file; choose a folder with --out DIR")
    if has_begun(run_dir) or (run_dir / "model.safetensors").exists():
        raise ValueError(
            f"{run_dir} holds a run already; go on with `--resume {run_dir}`, "
            "or choose another folder with --out DIR"
        )


def has_checkpoint(run_dir: Path) -> bool:
    """Whether a run, in its last stage where it has two, can go on from where it was."""
    return (run_dir / "checkpoint.json").is_file()


def has_begun(run_dir: Path) -> bool:
    """Whether there is something to go on from, of the run or of its first stage."""
    return has_checkpoint(run_dir) or has_checkpoint(run_dir / FIRST)


def check_same(run_dir: Path, saved: Config, config: Config) -> None:
    """Raise ``ValueError`` if a run is to be resumed with options that change its result."""
    from ..training import same_run

    try:
        free = (*same_run.FREE_TO_CHANGE, "data")
        same_run.check_same(saved.to_dict(), config.to_dict(), free)
    except ValueError as error:
        raise ValueError(f"cannot resume {run_dir}: {error}") from None


def objective_of(experiment: Experiment) -> "Objective":
    """Return the objective whose score an experiment has."""
    from ..training import Classification, Regression, StateRegression

    objectives = (Classification(), Regression(), StateRegression())
    return next(o for o in objectives if o.score == experiment.score)


def write_config(run_dir: Path, experiment: Experiment, config: Config) -> None:
    """Make a run folder that tells what is trained, and how."""
    from ..training.files import write_json

    run_dir.mkdir(parents=True, exist_ok=True)
    write_json(run_dir / "config.json", {"experiment": experiment.name} | config.to_dict())


def fit(
    setup: Setup, run_dir: Path, resume: bool = False, quiet: bool = False
) -> "tuple[Trainer, FitResult]":
    """Train into a run folder; the outcome is ``"stopped"`` after Ctrl-C.

    Returns
    -------
    trainer : Trainer
        With the weights that were kept.
    result : FitResult
    """
    from ..training import Trainer

    objective = objective_of(setup.experiment)
    trainer = Trainer(setup.model, setup.encoder, setup.train_config, run_dir, quiet, objective)
    if not resume and trainer.world.leads:
        write_config(run_dir, setup.experiment, setup.config)
        if setup.started:
            save(setup.model, run_dir / START)
    on, chosen = setup.config.augment, setup.experiment
    result = trainer.fit(
        setup.data,
        augment=chosen.augment if on else None,
        augment_states=chosen.augment_states if on else None,
        resume=resume,
    )
    return trainer, result


def finish(
    setup: Setup, trainer: "Trainer", result: "FitResult", run_dir: Path
) -> tuple[dict[str, Any], tuple[LayerRow, ...]]:
    """Evaluate the test set, once, with the model kept; write summary and figures.

    Returns
    -------
    summary : dict
        What ``summary.json`` holds.
    report : tuple of LayerRow
    """
    from ..training.files import json_safe, write_json

    experiment, data = setup.experiment, setup.data
    inputs, targets = data.split("test")
    found = trainer.evaluate(inputs, targets)
    run = load_run(run_dir)
    report = layer_report(run.model, sample_cores(run, data))
    about: dict[str, Any] = {
        "experiment": experiment.name,
        f"test_{experiment.score.name}": found.score,
        "test_loss": found.loss,
        "test_samples": data.size("test"),
        "num_params": run.model.num_params(),
        "log10_compression": log10_compression(report),
        "samples_per_s": float(np.median([m["samples_per_s"] for m in result.history])),
        "device": trainer.device,
        "seed": setup.config.seed,
        "versions": versions(),
    }
    first = read_summary(run_dir / FIRST)
    if first:
        about["first_seconds"] = first["train_seconds"]
    if data.class_names:
        names = list(data.class_names)
        matrix = confusion_matrix(targets, found.predictions, len(names))
        about |= {"confusion": matrix, "class_names": names}
    if experiment.conclude is not None:
        about |= experiment.conclude(run_dir, setup.config, data, found)
    summary = read_summary(run_dir) | json_safe(about)
    write_json(run_dir / "summary.json", summary)
    draw(run, report, class_report(run, data), data.class_names)
    return summary, report


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder, loaded; the model is on NumPy."""

    path: Path
    experiment: Experiment
    config: Config
    encoder: Encoder | None
    model: Layer


def load_config(run_dir: Path) -> tuple[Experiment, Config]:
    """Experiment and configuration of a run folder, or one clear error."""
    if not run_dir.is_dir():
        raise FileNotFoundError(f"there is no run folder {run_dir}")
    path = run_dir / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} is no run folder: it holds no config.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(values, dict) or "experiment" not in values:
        raise ValueError(f"{path}: names no experiment; it is not the config of a run")
    name = values.pop("experiment")
    return get_experiment(str(name)), from_dict(values, str(path))


def load_run(run_dir: Path) -> Run:
    """Load the model of a run folder with all that is needed to use it."""
    experiment, config = load_config(run_dir)
    path = run_dir / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{run_dir} holds no model yet; it is written after an epoch")
    return Run(run_dir, experiment, config, load_encoder(path), load(path))


def read_summary(run_dir: Path) -> dict[str, Any]:
    """Read ``summary.json``; empty if there is none."""
    path = run_dir / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    return summary if isinstance(summary, dict) else {}


def sample_cores(run: Run, data: Data, count: int = SAMPLES) -> Cores:
    """States of the first ``count`` validation samples."""
    return _states(run, rows(data.val_inputs, slice(count)))


def class_report(run: Run, data: Data) -> tuple[StateRow, ...]:
    """Entanglement by class, of the first validation samples of every class.

    Where there are no classes, all samples are of one.
    """
    classes = max(1, len(data.class_names))
    labels = data.val_targets if data.class_names else np.zeros(data.size("val"), dtype=np.int64)
    chosen = [np.flatnonzero(labels == n)[:SAMPLES_OF_CLASS] for n in range(classes)]
    index = np.concatenate(chosen)
    cores = _states(run, rows(data.val_inputs, index))
    return entanglement_report(run.model, cores, labels[index], classes)


def _states(run: Run, inputs: Any) -> Cores:
    if run.encoder is not None:
        return run.encoder.encode(inputs)
    return tuple(convert(core, "numpy") for core in inputs)


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count samples (classes, classes): rows are true classes, columns predicted ones.

    Examples
    --------
    >>> print(confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2))
    [[1 0]
     [1 1]]
    """
    flat = np.bincount(classes * labels + predictions, minlength=classes**2)
    return flat.reshape(classes, classes)


def draw(
    run: Run,
    report: tuple[LayerRow, ...],
    states: tuple[StateRow, ...],
    class_names: Sequence[str],
) -> list[Path]:
    """Draw every figure there is material for; return the files written."""
    from ..plotting import (
        plot_bonds,
        plot_confusion,
        plot_curves,
        plot_entanglement,
        plot_functions,
        plot_network,
        plot_spectra,
    )
    from ..training.metrics import read_metrics

    written = []
    metrics, summary = read_metrics(run.path), read_summary(run.path)
    if metrics:
        plot_curves(metrics, run.path / "curves.png", run.experiment.score)
        written.append(run.path / "curves.png")
    if "confusion" in summary:
        matrix = np.array(summary["confusion"])
        plot_confusion(matrix, class_names, run.path / "confusion.png")
        written.append(run.path / "confusion.png")
    plot_bonds(report, run.path / "bonds.png")
    plot_spectra(report, run.path / "spectra.png")
    plot_entanglement(states, class_names or ("all",), run.path / "entanglement.png")
    plot_network(run.model, run.path / "network.png", max(report[0].bonds, default=1))
    written += [
        run.path / f"{name}.png" for name in ("bonds", "spectra", "entanglement", "network")
    ]
    for number, layer in enumerate(run.model.layers if isinstance(run.model, Sequential) else ()):
        if isinstance(layer, KAN):
            written.append(run.path / f"functions-{number}.png")
            plot_functions(layer, written[-1])
    return written


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    from .. import __version__

    found = {name: version(name) for name in ("numpy", "autoray", "quimb", "torch")}
    return {"ftnn": __version__, "python": platform.python_version()} | found


def new_run_dir(name: str, root: str | os.PathLike[str] = "runs") -> Path:
    """Folder for a new run of an experiment, named after the time; not made yet."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path(root) / stem, 1
    while path.exists():
        number += 1
        path = Path(root) / f"{stem}-{number}"
    return path
