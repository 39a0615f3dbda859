"""The command ``ftnn search EXPERIMENT``: find depth, bonds and dimensions of a network."""

from pathlib import Path
from typing import Annotated

import typer

from .paths import typed_path


def search(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="Name, or Python file that defines one.")
    ],
    trials: Annotated[int, typer.Option(min=1, help="Networks to train, in all.")] = 20,
    params: Annotated[int | None, typer.Option(min=1, help="Most parameters of a network.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Most minutes.")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW..HIGH",
            help="An option and its range; repeatable. By default depth, bonds and dimensions, "
            "from half to twice their tuned values.",
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Another option, as of `ftnn train`; repeatable."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=typed_path, help="TOML file with options."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=typed_path,
            help="Folder of the search; one that has a search goes on. "
            "Default runs/search-NAME-TIME.",
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Train every network as in a quick trial.")
    ] = False,
) -> None:
    """Search for depth, bonds and dimensions of a network, by validation data alone.

    Networks are proposed and pruned by Optuna. A search that was interrupted goes on with the same
    command and its --out.
    """
    from ..experiments.display import console, search_table
    from ..experiments.experiment import resolve
    from ..experiments.folder import new_run_dir
    from ..experiments.registry import find_experiment
    from ..experiments.search import FIGURE, Search, best_first, ranges
    from ..experiments.setup import check_torch
    from ..training.lock import locked_folder

    check_torch()
    found = find_experiment(experiment)
    options = resolve(found.tuned_options(quick), config, None, quick)
    options = resolve(options, None, _parsed(_words(set, "--set"), options))
    found.check(options)
    varied = ranges(found, options, _words(vary, "--vary"))
    folder = new_run_dir(f"search-{found.name}") if out is None else out
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--out {folder} is a file; choose a folder")
    folder.mkdir(parents=True, exist_ok=True)
    screen = console()
    with locked_folder(folder):
        job = Search(found, options, varied, folder, params)
        screen.print(", ".join(f"{name} {own}" for name, own in varied.items()), soft_wrap=True)
        rows = job.run(trials, minutes, lambda text: screen.print(text, soft_wrap=True))
    again = f"go on with the same command and --out {folder}"
    if job.stopped:
        screen.print(f"interrupted; {again}", soft_wrap=True)
        raise typer.Exit(130)
    rows = best_first(rows, job.score)
    if rows and rows[0].score is not None:
        screen.print(search_table(rows, job.score))
        screen.print(f"best: {job.command(rows[0])}", soft_wrap=True)
        screen.print(f"search folder: {folder}, with {FIGURE}", soft_wrap=True)


def _words(given: list[str] | None, flag: str) -> dict[str, str]:
    """Split words NAME=VALUE."""
    found: dict[str, str] = {}
    for word in given or []:
        name, sign, value = word.partition("=")
        if not sign or not name or not value:
            raise ValueError(f"{flag} is {word!r}, expected NAME=VALUE")
        found[name.replace("-", "_")] = value
    return found


def _parsed(given: dict[str, str], options: object) -> dict[str, object]:
    """Parse values as those of flags of ``ftnn train``."""
    from ..training.options import specs_of

    specs = specs_of(type(options))
    values: dict[str, object] = {}
    for name, text in given.items():
        if name not in specs:
            raise ValueError(f"--set has {name!r}, expected one of {', '.join(specs)}")
        kind = specs[name].kind
        truth = {"true": True, "yes": True, "false": False, "no": False}
        values[name] = truth.get(text, text) if kind is bool else specs[name].parse(text)
    return values
