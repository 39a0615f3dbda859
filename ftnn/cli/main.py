"""The command line: ``ftnn train | evaluate | inspect | plot``.

Whatever goes wrong is told in one line on standard error, ``ftnn: error: ...``, with exit code
2; FTNN_DEBUG=1 shows the traceback. Nothing slow is imported before a command runs.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ..experiments import EXPERIMENTS
from ..experiments.base import Config, resolve

if TYPE_CHECKING:
    from rich.console import Console

    from ..experiments.base import Experiment
    from ..experiments.run import Run, Setup
    from ..training import FitResult, Trainer
    from ..training.world import World

_OPTIONS = {option.name: option for option in fields(Config)}
_MODEL_OPTIONS = (
    *("input_bond", "max_bond", "bond_dim", "readout_bond", "phys", "depth", "nonlinearity"),
    *("features", "hidden", "dropout", "block_bond"),
)
_DATA_OPTIONS = ("data", "limit", "augment", "sites", "grid")


class OneLineErrors(TyperGroup):
    """A command group that tells every error in one line."""

    def main(  # type: ignore[override]  # typer adds **extra, which nothing here uses
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
    ) -> Any:
        """Run a command; exits unless ``standalone_mode`` is false."""
        if not standalone_mode or os.environ.get("FTNN_DEBUG", "0") not in ("", "0"):
            return super().main(args, prog_name, complete_var, standalone_mode, windows_expand_args)
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args)
        except (typer.Abort, KeyboardInterrupt):
            print("ftnn: interrupted", file=sys.stderr)
            code = 130
        except BrokenPipeError:  # the reader of a pipe has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 141
        except Exception as error:
            print(f"ftnn: error: {_one_line(error)}", file=sys.stderr)
            code = 2
        sys.exit(code if isinstance(code, int) else 0)


def _one_line(error: Exception) -> str:
    if hasattr(error, "format_message"):  # click's errors in what was typed
        return _joined(error.format_message())
    if isinstance(error, (ValueError, TypeError, ImportError, OSError, RuntimeError)):
        return _joined(str(error)) or type(error).__name__
    if isinstance(error, MemoryError):
        return f"out of memory: {_joined(str(error))}; use smaller bonds or batches"
    return f"internal, {type(error).__name__}: {_joined(str(error))} (FTNN_DEBUG=1 shows more)"


def _joined(text: str) -> str:
    return " ".join(text.split())


app = typer.Typer(
    name="ftnn",
    cls=OneLineErrors,
    help="Fully tensorized neural networks: train, evaluate, inspect, plot.",
    epilog="Start with: ftnn train digits",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _flag(name: str) -> Any:
    """Option of ``train`` for a field of :class:`Config`."""
    spec = _OPTIONS[name].metadata
    text = spec["help"]
    if spec["choices"]:
        text = f"{text[:-1]}: {', '.join(spec['choices'])}."
    panel = "Training"
    if name in _MODEL_OPTIONS:
        panel = "Model"
    elif name in _DATA_OPTIONS:
        panel = "Data"
    kind = spec["kind"]
    metavar = {int: "INTEGER", float: "NUMBER", str: "TEXT", bool: None}[kind]
    parser = _number(kind) if kind in (int, float) else None
    return typer.Option(help=text, rich_help_panel=panel, metavar=metavar, parser=parser)


def _number(kind: type) -> Callable[[str], Any]:
    """Parser of a number; what is none is left to the checks of :class:`Config`, which name it."""

    def parse(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            return text

    return parse


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `ftnn train`.")]
DataFolder = Annotated[str | None, typer.Option("--data", help="Folder with the data set.")]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="INTEGER", parser=_number(int), help="CPU threads of torch; default as in training."
    ),
]


@app.callback(invoke_without_command=True)
def ftnn(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Fully tensorized neural networks: train, evaluate, inspect, plot."""
    if version:
        from .. import __version__

        print(f"ftnn {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        ctx.get_help()  # typer prints it


@app.command(
    epilog="Examples: ftnn train digits --epochs 10 --max-bond 12 | "
    "ftnn train fashion-mnist --data DIR --config my.toml | ftnn train --resume RUN"
)
def train(
    ctx: typer.Context,
    experiment: Annotated[
        str | None, typer.Argument(metavar="EXPERIMENT", help=f"One of {', '.join(EXPERIMENTS)}.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="TOML file with any of the options below.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder; default runs/NAME-TIME.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the result only.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="A trial of less than a minute; its result is poor.")
    ] = False,
    input_bond: Annotated[int | None, _flag("input_bond")] = None,
    max_bond: Annotated[int | None, _flag("max_bond")] = None,
    bond_dim: Annotated[int | None, _flag("bond_dim")] = None,
    readout_bond: Annotated[int | None, _flag("readout_bond")] = None,
    phys: Annotated[int | None, _flag("phys")] = None,
    depth: Annotated[int | None, _flag("depth")] = None,
    nonlinearity: Annotated[str | None, _flag("nonlinearity")] = None,
    features: Annotated[int | None, _flag("features")] = None,
    hidden: Annotated[int | None, _flag("hidden")] = None,
    dropout: Annotated[float | None, _flag("dropout")] = None,
    block_bond: Annotated[int | None, _flag("block_bond")] = None,
    data: Annotated[str | None, _flag("data")] = None,
    limit: Annotated[int | None, _flag("limit")] = None,
    augment: Annotated[bool | None, _flag("augment")] = None,
    sites: Annotated[int | None, _flag("sites")] = None,
    grid: Annotated[int | None, _flag("grid")] = None,
    start: Annotated[str | None, _flag("start")] = None,
    epochs: Annotated[int | None, _flag("epochs")] = None,
    fine_epochs: Annotated[int | None, _flag("fine_epochs")] = None,
    batch_size: Annotated[int | None, _flag("batch_size")] = None,
    lr: Annotated[float | None, _flag("lr")] = None,
    fine_lr: Annotated[float | None, _flag("fine_lr")] = None,
    linear_lr: Annotated[float | None, _flag("linear_lr")] = None,
    weight_decay: Annotated[float | None, _flag("weight_decay")] = None,
    label_smoothing: Annotated[float | None, _flag("label_smoothing")] = None,
    ema_decay: Annotated[float | None, _flag("ema_decay")] = None,
    clip_norm: Annotated[float | None, _flag("clip_norm")] = None,
    schedule: Annotated[str | None, _flag("schedule")] = None,
    warmup: Annotated[float | None, _flag("warmup")] = None,
    optimizer: Annotated[str | None, _flag("optimizer")] = None,
    patience: Annotated[int | None, _flag("patience")] = None,
    seed: Annotated[int | None, _flag("seed")] = None,
    device: Annotated[str | None, _flag("device")] = None,
    dtype: Annotated[str | None, _flag("dtype")] = None,
    threads: Annotated[int | None, _flag("threads")] = None,
    checkpoint_seconds: Annotated[float | None, _flag("checkpoint_seconds")] = None,
    compile: Annotated[bool | None, _flag("compile")] = None,
    recompute: Annotated[bool | None, _flag("recompute")] = None,
) -> None:
    """Train a fully tensorized network; Ctrl-C leaves a run that can be resumed.

    Options left out have the values the experiment was tuned with.
    """
    flags = {name: ctx.params[name] for name in _OPTIONS}
    _train(experiment, config, out, resume, quiet, quick, flags)


def _train(
    name: str | None,
    file: str | None,
    out: Path | None,
    resume: Path | None,
    quiet: bool,
    quick: bool,
    flags: dict[str, Any],
) -> None:
    from ..experiments import get_experiment, run

    if resume is not None:
        if out is not None or file is not None or quick:
            raise ValueError("--resume takes no --out, --config or --quick: the run has them all")
        chosen, base = run.load_config(resume)
        if not run.has_begun(resume):
            raise ValueError(f"{resume} holds no checkpoint.json to go on from")
        if name not in (None, chosen.name):
            raise ValueError(f"{resume} is a run of {chosen.name}, not of {name}")
        folder = resume
    else:
        if name is None:
            raise ValueError(f"missing EXPERIMENT; choose one of {', '.join(EXPERIMENTS)}")
        chosen = get_experiment(name)
        base = chosen.configured(quick)
        folder = run.new_run_dir(name) if out is None else out
    config = resolve(base, file, flags, quick)
    if resume is None:
        run.check_free(folder)
    run.check_torch()
    if resume is not None:
        run.check_same(folder, base, config)
    from ..measure.memory import keep_freed_memory
    from ..training.world import joined_world

    keep_freed_memory()
    with joined_world() as world:
        folder = world.from_leader(lambda: folder)  # its name is the time
        with _resumable(folder):
            _train_together(world, chosen, config, folder, quiet)


def _train_together(
    world: "World", chosen: "Experiment", config: Config, folder: Path, quiet: bool
) -> None:
    """Train, in one stage or in two; the test set is read at the end of the last."""
    from ..experiments import run
    from .tables import summary_table

    stages = None if chosen.stages is None else chosen.stages(config)
    last = config
    if stages is not None:
        before = folder / run.FIRST
        if not world.from_leader(lambda: run.has_begun(folder)):
            with world.leader_first():  # what is wrong with the second stage is told now
                for stage in stages:
                    run.prepare(chosen, stage)
            if world.leads:
                run.write_config(folder, chosen, config)
        if not world.from_leader(lambda: run.has_checkpoint(folder)):
            _fit(world, chosen, stages[0], stages[0], before, quiet)
        last = replace(stages[1], start=str(before))
    setup, trainer, result = _fit(world, chosen, last, config, folder, quiet)
    if world.leads:
        summary, _ = run.finish(setup, trainer, result, folder)
        console = _console()
        console.print(summary_table(summary, chosen.score, chosen.samples))
        console.print(f"run folder: {folder}", soft_wrap=True)
    world.wait()


def _fit(
    world: "World", chosen: "Experiment", stage: Config, config: Config, folder: Path, quiet: bool
) -> "tuple[Setup, Trainer, FitResult]":
    """Train a stage into a run folder of ``config``, from the checkpoint there if there is one."""
    from ..experiments import run
    from .tables import setup_line, setup_table

    resume = world.from_leader(lambda: run.has_checkpoint(folder))
    with world.leader_first():
        setup = run.prepare(chosen, stage, folder if resume else None)
    setup = replace(setup, config=config)
    if world.leads and not quiet:
        console = _console()
        console.print(setup_table(setup), setup_line(setup), f"run folder {folder}", sep="\n")
        if world.size > 1:
            console.print(f"{world.size} processes share every batch")
    trainer, result = run.fit(setup, folder, resume, quiet)
    if result.outcome == "stopped":
        raise KeyboardInterrupt
    return setup, trainer, result


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Tell, on Ctrl-C, how to go on."""
    from ..experiments.run import has_begun

    try:
        yield
    except KeyboardInterrupt:
        if has_begun(folder):
            hint = f"checkpoint in {folder}; go on with `ftnn train --resume {folder}`"
        else:
            hint = "before the first checkpoint; nothing to resume"
        print(f"ftnn: interrupted: {hint}", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command(epilog="Example: ftnn evaluate runs/digits-20250101-120000 --backend numpy")
def evaluate(
    run: RunFolder,
    backend: Annotated[str, typer.Option(help="numpy, torch, cupy or jax.")] = "torch",
    device: Annotated[str | None, typer.Option(help="Device of the backend, e.g. cuda:0.")] = None,
    split: Annotated[str, typer.Option(help="test or val.")] = "test",
    threads: Threads = None,
    data: DataFolder = None,
) -> None:
    """Accuracy, loss and speed of a trained model on a backend."""
    from ..arrays.backend import check_backend
    from ..experiments.run import load_run, objective_of
    from ..training.evaluation import evaluate as evaluate_model

    if split not in ("test", "val"):
        raise ValueError(f"--split is {split!r}, expected test or val")
    check_backend(backend)
    if backend == "torch" and device is not None:
        from ..training.config import TrainConfig, resolve_device

        device = resolve_device(TrainConfig(device=device).device)
    loaded = load_run(run)
    threads = resolve(loaded.config, None, {"threads": threads}).threads
    if backend == "torch" and threads:
        import torch

        torch.set_num_threads(threads)
    samples = _load_data(loaded, data)
    loaded.model.to(backend, device=device)
    inputs, targets = samples.split(split)
    objective = objective_of(loaded.experiment)
    found = evaluate_model(loaded.model, loaded.encoder, inputs, targets, objective)
    part = {"test": "test", "val": "validation"}[split]
    score = loaded.experiment.score
    _console().print(
        f"{part} {score.name} {found.score:{score.spec}}, loss {found.loss:.4g}, "
        f"{samples.size(split)} {loaded.experiment.samples}, "
        f"{found.samples_per_s:,.0f} samples/s on {backend}",
        soft_wrap=True,
    )


@app.command(epilog="Example: ftnn inspect runs/digits-20250101-120000")
def inspect(
    run: RunFolder,
    data: DataFolder = None,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure training steps against their floor, too.")
    ] = False,
    threads: Threads = None,
) -> None:
    """Layers, dimensions, bonds, parameters, FLOPs, truncation errors, entanglement by class."""
    from ..experiments.run import class_report, load_run, sample_cores
    from ..interpret.report import layer_report
    from ..interpret.trace import flops_per_sample
    from .tables import class_table, entropy_table, layer_table, pairs_table

    if threads is not None and not speed:
        raise ValueError("--threads is of use with --speed only; leave it out")
    loaded = load_run(run)
    samples = _load_data(loaded, data)
    cores = sample_cores(loaded, samples)
    rows = layer_report(loaded.model, cores)
    states = class_report(loaded, samples)
    console = _console()
    console.print(layer_table(rows))
    console.print(entropy_table(rows))
    console.print(class_table(states, samples.class_names or ("all",)))
    console.print(pairs_table(states))
    try:
        flops = f"{flops_per_sample(loaded.model, cores):.3g}"
    except ValueError:
        flops = "– (counting needs torch)"
    console.print(
        f"{flops} FLOPs per sample (forward, matrix products only). D: bond dimension of the "
        "weight; χ: of the output. compression: parameters of the dense matrix over those of the "
        "layer. Truncation errors are root mean squares and entropies means, over "
        f"{len(cores[0])} validation {loaded.experiment.samples}."
    )
    if speed:
        console.print(_speed_text(loaded, samples, threads))


@app.command(epilog="Example: ftnn plot runs/digits-20250101-120000")
def plot(run: RunFolder, data: DataFolder = None) -> None:
    """Draw the figures of a run into its folder, finished or not."""
    from ..experiments.run import class_report, draw, load_run, sample_cores
    from ..interpret.report import layer_report

    loaded = load_run(run)
    samples = _load_data(loaded, data)
    report = layer_report(loaded.model, sample_cores(loaded, samples))
    for path in draw(loaded, report, class_report(loaded, samples), samples.class_names):
        print(path)


def _speed_text(run: "Run", data: Any, threads: int | None) -> str:
    from ..experiments.run import check_torch, sample_cores

    check_torch()
    from ..measure.memory import keep_freed_memory
    from ..measure.speed import training_speed

    keep_freed_memory()
    threads = resolve(run.config, None, {"threads": threads}).threads
    if threads:
        import torch

        torch.set_num_threads(threads)
    found = training_speed(run.model, sample_cores(run, data, run.config.batch_size))
    return (
        f"Training step of {found.batch_size} samples on {found.threads} "
        f"thread{'s' if found.threads > 1 else ''}: {1e3 * found.seconds:.1f} ms, "
        f"{found.samples_per_s:,.0f} samples/s. Its matrix products alone, {found.flops:.3g} FLOPs "
        f"at the rate measured for each shape: {1e3 * found.floor_seconds:.1f} ms. The step takes "
        f"{found.multiple:.1f} times as long."
    )


def _load_data(run: "Run", folder: str | None) -> Any:
    config = resolve(run.config, None, {"data": folder})
    run.experiment.check(config)
    return run.experiment.load(replace(config, limit=None))


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False)


def main() -> None:
    """Entry point of the ``ftnn`` command."""
    app()
