"""``ftnn train EXPERIMENT``: one command per experiment, made from its dataclass of options."""

import signal
import sys
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..experiments.experiment import Experiment, resolve
from ..experiments.folder import has_begun, load_options, new_run_dir
from ..experiments.registry import experiment_names, find_experiment
from ..training.options import Spec, flat, format_value, specs_of
from .paths import typed_path

EXAMPLES = "ftnn train digits --epochs 10 --max-bond 12 | ftnn train --resume RUN"

RUN_FLAGS: dict[str, Any] = {
    "config": Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=typed_path, help="TOML file with any of the options below."
        ),
    ],
    "out": Annotated[
        Path | None,
        typer.Option(metavar="DIR", parser=typed_path, help="Run folder; default runs/NAME-TIME."),
    ],
    "resume": Annotated[
        Path | None,
        typer.Option(metavar="RUN", parser=typed_path, help="Resume an interrupted run."),
    ],
    "quiet": Annotated[bool, typer.Option("--quiet", help="Print the result only.")],
    "quick": Annotated[
        bool, typer.Option("--quick", help="Quick trial of less than a minute, with a poor result.")
    ],
    "tensorboard": Annotated[
        bool, typer.Option("--tensorboard", help="Log to RUN/tensorboard, for TensorBoard.")
    ],
}
"""Flags common to all experiments, which are not options of the training."""


class TrainGroup(TyperGroup):
    """The commands ``ftnn train EXPERIMENT``, each created on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the experiments."""
        return list(experiment_names())

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand:
        """Make the command of an experiment, named or in a file."""
        return command_of(find_experiment(cmd_name))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the experiment, or that of a resumed run, to the front."""
        if not args:
            raise _missing()
        if args[0].startswith("-") and args[0] not in ctx.help_option_names:
            name = _named(args)
            args = [name, *(word for word in args if word != name)]
        return super().parse_args(ctx, args)


def command_of(experiment: Experiment) -> TyperCommand:
    """Make the command that trains an experiment."""
    specs, tuned = specs_of(experiment.options), flat(experiment.tuned_options())
    clash = specs.keys() & RUN_FLAGS.keys()
    if clash:
        raise ValueError(
            f"experiment {experiment.name} has an option {min(clash)!r}, which `ftnn train` has "
            "already; rename it"
        )

    def train(**given: Any) -> None:
        own = {name: given.pop(name) for name in RUN_FLAGS}
        train_experiment(experiment, given, **own)

    parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, annotation=flag, default=_default(flag))
        for name, flag in RUN_FLAGS.items()
    ]
    unused = experiment.options.unused
    parameters += [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            annotation=_flag(spec, tuned[name], name in unused),
            default=None,
        )
        for name, spec in sorted(specs.items(), key=lambda item: item[1].path[:1] == ("train",))
    ]
    train.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(
        experiment.name,
        help=f"{experiment.description}\n\nOmitted options have tuned values.",
        short_help=experiment.description,
        rich_help_panel="Experiments",
        context_settings={"help_option_names": ["-h", "--help"]},
    )(train)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperCommand)
    return command


def train_experiment(
    experiment: Experiment,
    flags: dict[str, Any],
    config: Path | None,
    out: Path | None,
    resume: Path | None,
    quiet: bool,
    quick: bool,
    tensorboard: bool,
) -> None:
    """Train with the given flags; print the result."""
    if resume is not None:
        if out is not None or config is not None or quick:
            raise ValueError("--resume takes no --out, --config or --quick: the run has them all")
        own, base = load_options(resume, experiment)
        if experiment.name != own.name:
            raise ValueError(f"{resume} is a run of {own.name}, not of {experiment.name}")
        folder = resume
    else:
        base = experiment.tuned_options(quick)
        folder = new_run_dir(experiment.name) if out is None else out
    options = resolve(base, config, flags, quick)
    from ..experiments.runner import run
    from ..experiments.setup import check_torch

    check_torch()
    from ..training import TensorBoard

    callbacks = [TensorBoard()] if tensorboard else []
    result, received = None, None
    try:
        result = run(experiment, options, folder, resume is not None, quiet, callbacks)
        received = result.signal
    except KeyboardInterrupt as stop:
        received = stop.args[0] if stop.args else signal.SIGINT
    if result is None or result.outcome == "stopped":
        _tell_how_to_resume(folder)
        raise typer.Exit(128 + (received or signal.SIGINT))
    if result.summary:
        from ..experiments.display import console, summary_table

        out_console = console()
        out_console.print(summary_table(result.summary, result.score, experiment.samples))
        out_console.print(f"run folder: {folder}", soft_wrap=True)


def _tell_how_to_resume(folder: Path) -> None:
    if has_begun(folder):
        hint = f"checkpoint in {folder}; resume with `ftnn train --resume {folder}`"
    else:
        hint = "before the first checkpoint; nothing to resume"
    print(f"ftnn: interrupted: {hint}", file=sys.stderr)


def _named(args: list[str]) -> str:
    """Find the experiment in arguments that begin with a flag."""
    for flag, value in zip(args, [*args[1:], ""], strict=True):
        name, _, joined = flag.partition("=")
        if name == "--resume":
            run_dir = typed_path(joined or value)
            experiment = load_options(run_dir)[0]
            return experiment.name if experiment.file is None else str(experiment.file)
    for word in args:
        if word in experiment_names() or word.endswith(".py"):
            return word
    raise _missing()


def _missing() -> ValueError:
    return ValueError(
        f"missing EXPERIMENT; choose one of {', '.join(experiment_names())}, or give a Python file "
        "that defines one"
    )


def _default(flag: Any) -> Any:
    return False if flag.__origin__ is bool else None


def _flag(spec: Spec, tuned: Any, hidden: bool) -> Any:
    """Annotate the flag of an option; None means that it was not given.

    A hidden one, without use, is refused with the reason when it is given.
    """
    text = spec.help.removesuffix(".")
    text += f": {', '.join(spec.choices)}." if spec.choices else "."
    if spec.kind is bool:
        text += f" (default --{'' if tuned else 'no-'}{spec.name.replace('_', '-')})"
        option = typer.Option(
            hidden=hidden, help=text, rich_help_panel=spec.group, show_default=False
        )
        return Annotated[bool | None, option]
    option = typer.Option(
        hidden=hidden,
        help=text if tuned is None else f"{text} (default {format_value(tuned)})",
        rich_help_panel=spec.group,
        metavar={int: "INTEGER", float: "NUMBER", str: "TEXT"}[spec.kind],
        parser=spec.parse,
        show_default=False,
    )
    return Annotated[Any, option]
