"""Commands that take a run folder: ``evaluate``, ``predict``, ``inspect`` and ``plot``."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..experiments.experiment import resolve
from ..training.config import TrainConfig
from ..training.options import replace_values, specs_of
from .paths import typed_path

if TYPE_CHECKING:
    import numpy as np

    from ..experiments.folder import Run
    from ..experiments.splits import Data

RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", parser=typed_path, help="Run folder of `ftnn train`.")
]
DataPlace = Annotated[
    str | None, typer.Option("--data", help="Location of the data; default as in training.")
]
ExperimentFile = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        metavar="FILE",
        help="Python file that defines the experiment, if it has moved.",
    ),
]
Backend = Annotated[str, typer.Option(help="numpy, torch, cupy or jax.")]
Device = Annotated[str | None, typer.Option(help="Device of the backend, e.g. cuda:0.")]
Threads = Annotated[
    Any,
    typer.Option(
        metavar="INTEGER",
        parser=specs_of(TrainConfig)["threads"].parse,
        help="CPU threads of torch; default as in training.",
    ),
]


def evaluate(
    run: RunFolder,
    backend: Backend = "torch",
    device: Device = None,
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    threads: Threads = None,
    data: Annotated[
        str | None,
        typer.Option(help="New data for table and images; for others the location of the data."),
    ] = None,
    experiment: ExperimentFile = None,
) -> None:
    """Measure accuracy or error, loss and speed of a trained model on a backend."""
    from ..experiments.display import console
    from ..experiments.setup import objective_for
    from ..training.evaluation import evaluate as evaluate_model

    if split not in ("test", "val"):
        raise ValueError(f"--split is {split!r}, expected test or val")
    loaded = _load_on(run, experiment, backend, device, threads)
    if data is not None and loaded.experiment.read is not None:
        new = loaded.experiment.read(loaded, data, True)
        inputs, targets, score = new.inputs, new.targets, new.score
        what = f"{len(new.names)} {loaded.experiment.samples} of {data}"
        name = score.name
    else:
        samples = load_data(loaded, data)
        inputs, targets = samples.split(split)
        score = samples.score
        what = f"{samples.size(split)} {loaded.experiment.samples}"
        name = f"{'test' if split == 'test' else 'validation'} {score.name}"
    result = evaluate_model(loaded.model, loaded.encoder, inputs, targets, objective_for(score))
    console().print(
        f"{name} {result.score:{score.spec}}, loss {result.loss:.4g}, {what}, "
        f"{result.samples_per_s:,.0f} samples/s on {backend}",
        soft_wrap=True,
    )


def predict(
    run: RunFolder,
    data: Annotated[str, typer.Option(help="File or folder with new data.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", parser=typed_path, help="CSV file to write.")
    ] = Path("predictions.csv"),
    backend: Backend = "torch",
    device: Device = None,
    threads: Threads = None,
    experiment: ExperimentFile = None,
) -> None:
    """Write the predictions of a trained model for new data to a CSV file."""
    from ..experiments.folder import read_summary
    from ..training.evaluation import predict as predict_outputs

    if out.exists():
        raise ValueError(f"{out} exists; choose another file with --out FILE")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out}: folder {out.parent} does not exist; create it")
    loaded = _load_on(run, experiment, backend, device, threads)
    if loaded.experiment.read is None:
        raise ValueError(
            f"experiment {loaded.experiment.name} reads no new data; `ftnn predict` works "
            "for runs of table and images"
        )
    new = loaded.experiment.read(loaded, data, False)
    outputs = predict_outputs(loaded.model, loaded.encoder, new.inputs)
    write_predictions(out, new.names, outputs, new.class_names, read_summary(run))
    print(f"{len(outputs)} predictions: {out}")


def inspect(
    run: RunFolder,
    data: DataPlace = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Also measure training steps against their floor.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Device of --speed, e.g. cuda:0; default as in training.")
    ] = None,
    threads: Threads = None,
    experiment: ExperimentFile = None,
) -> None:
    """Show layers, dimensions, bonds, parameters, FLOPs, truncation errors and entanglement."""
    from ..experiments.display import console
    from ..experiments.folder import load_run
    from ..experiments.summary import class_report, sample_cores
    from ..interpret.report import layer_report
    from ..interpret.trace import flops_per_sample
    from .tables import class_table, entropy_table, layer_table, pairs_table

    for name, value in (("threads", threads), ("device", device)):
        if value is not None and not speed:
            raise ValueError(f"--{name} applies to --speed only; leave it out")
    loaded = load_run(run, experiment)
    samples = load_data(loaded, data)
    cores = sample_cores(loaded.encoder, samples)
    rows = layer_report(loaded.model, cores)
    states = class_report(loaded.model, loaded.encoder, samples)
    out = console()
    out.print(layer_table(rows))
    out.print(entropy_table(rows))
    out.print(class_table(states, samples.class_names or ("all",)))
    out.print(pairs_table(states))
    try:
        flops = f"{flops_per_sample(loaded.model, cores):.3g}"
    except ValueError:
        flops = "– (counting needs torch)"
    out.print(
        f"{flops} FLOPs per sample (forward, matrix products only). D: bond dimension of the "
        "weight; χ: of the output. compression: parameters of the dense matrix over those of the "
        "layer. Truncation errors are root mean squares and entropies means, over "
        f"{len(cores[0])} validation {loaded.experiment.samples}."
    )
    if speed:
        out.print(_speed_text(loaded, samples, device, threads))


def plot(
    run: RunFolder,
    data: DataPlace = None,
    experiment: ExperimentFile = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=typed_path, help="Folder for the figures; default the run."
        ),
    ] = None,
) -> None:
    """Draw the figures of a finished or unfinished run into its folder."""
    from ..experiments.figures import draw_figures
    from ..experiments.folder import load_run, read_summary
    from ..experiments.summary import class_report, sample_cores
    from ..interpret.report import layer_report
    from ..layers.atomic import clear_write_errors
    from ..training.metrics import read_metrics

    loaded = load_run(run, experiment)
    samples = load_data(loaded, data)
    summary = read_summary(run)
    epochs = summary.get("epochs")
    records = read_metrics(run, epochs if isinstance(epochs, int) else None)
    folder = run if out is None else out
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder}: is a file, expected a folder")
    with clear_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        paths = draw_figures(
            folder,
            loaded.model,
            records,
            summary,
            layer_report(loaded.model, sample_cores(loaded.encoder, samples)),
            class_report(loaded.model, loaded.encoder, samples),
            samples.class_names,
            samples.score,
        )
    for path in paths:
        print(path)


def write_predictions(
    path: Path,
    names: Sequence[str],
    outputs: "np.ndarray",
    class_names: Sequence[str],
    summary: Mapping[str, Any],
) -> None:
    """Write a CSV file of classes with probabilities, or of numbers in their original unit."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        if not class_names:
            mean, scale = summary["target_mean"], summary["target_scale"]
            table.writerow(["sample", "prediction"])
            rows = zip(names, outputs[:, 0], strict=True)
            table.writerows([name, f"{mean + scale * value:.8g}"] for name, value in rows)
            return
        table.writerow(["sample", "prediction", "probability"])
        for name, logits in zip(names, outputs, strict=True):
            best = int(logits.argmax())
            probability = 1.0 / sum(math.exp(logit - logits[best]) for logit in logits)
            table.writerow([name, class_names[best], f"{probability:.6f}"])


def _load_on(
    run: Path, experiment: str | None, backend: str, device: str | None, threads: Any
) -> "Run":
    """Load a run, and move its model to a backend and a device."""
    from ..arrays.backend import check_backend
    from ..experiments.folder import load_run

    check_backend(backend)
    if backend == "torch" and device is not None:
        device = _torch_device(device)
    loaded = load_run(run, experiment)
    if backend == "torch":
        _set_threads(loaded, threads)
    loaded.model.to(backend, device=device)
    return loaded


def load_data(run: "Run", place: str | None) -> "Data":
    """Load all data of a run, from another location if one is given."""
    if place is not None and "data" not in specs_of(type(run.options)):
        raise ValueError(
            f"--data is {place!r}, but experiment {run.experiment.name} does not use it; leave "
            "it out"
        )
    options = resolve(run.options, None, {"data": place})
    run.experiment.check(options)
    whole = {"limit": None} if "limit" in specs_of(type(options)) else {}
    data = run.experiment.load(replace_values(options, whole))
    run.check_inputs(data.val_inputs)
    return data


def _speed_text(run: "Run", data: "Data", device: str | None, threads: Any) -> str:
    from ..experiments.setup import check_torch
    from ..experiments.summary import sample_cores
    from ..measure.memory import keep_freed_memory
    from ..measure.speed import training_speed

    check_torch()
    keep_freed_memory()
    place = _torch_device(run.options.train.device if device is None else device)
    _set_threads(run, threads)
    cores = sample_cores(run.encoder, data, run.options.train.batch_size)
    speed = training_speed(run.model, cores, place)
    where = f"{speed.threads} thread{'s' if speed.threads > 1 else ''}"
    where = where if place == "cpu" else place
    return (
        f"Training step of {speed.batch_size} samples on {where}: {1e3 * speed.seconds:.1f} ms, "
        f"{speed.samples_per_s:,.0f} samples/s. Its matrix products alone, {speed.flops:.3g} FLOPs "
        f"at the rate measured for each shape: {1e3 * speed.floor_seconds:.1f} ms. The step takes "
        f"{speed.multiple:.1f} times as long."
    )


def _torch_device(name: str) -> str:
    from ..training.optimizer import resolve_device

    return resolve_device(name)


def _set_threads(run: "Run", threads: Any) -> None:
    """Check the number of threads, by default that of training, and set it in torch."""
    config = replace(run.options.train, **({} if threads is None else {"threads": threads}))
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
