"""The command line: ``ftnn train | evaluate | predict | inspect | plot | compress | search``.

Nothing slow is imported before a command runs.
"""

from typing import Annotated

import typer

from .compress import compress
from .errors import OneLineErrors
from .runs import evaluate, inspect, plot, predict
from .search import search
from .train import EXAMPLES, TrainGroup

app = typer.Typer(
    name="ftnn",
    cls=OneLineErrors,
    help="Fully tensorized neural networks: train and search, evaluate, predict, inspect, plot, "
    "compress.",
    epilog="Start with: ftnn train digits",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def ftnn(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Fully tensorized neural networks: train and search, evaluate, predict, plot, compress."""
    if version:
        from .. import __version__

        print(f"ftnn {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        ctx.get_help()  # typer prints it


train_app = typer.Typer(add_completion=False)


@train_app.callback()
def train() -> None:
    """Train a fully tensorized network; after Ctrl-C the run can be resumed.

    For the options of an experiment: ftnn train digits --help.
    EXPERIMENT is a name, or the path of a Python file that defines one.
    """


app.add_typer(
    train_app,
    name="train",
    cls=TrainGroup,
    epilog=f"Examples: {EXAMPLES}",
    subcommand_metavar="EXPERIMENT [OPTIONS]",
)
app.command(epilog="Example: ftnn evaluate runs/digits-20250101-120000 --backend numpy")(evaluate)
app.command(epilog="Example: ftnn predict RUN --data new.csv --out predictions.csv")(predict)
app.command(epilog="Example: ftnn inspect runs/digits-20250101-120000")(inspect)
app.command(epilog="Example: ftnn plot runs/digits-20250101-120000")(plot)
app.command(
    epilog="Example: ftnn compress model.pt2 --data train.npz --params 0.1 --out small.pt2"
)(compress)
app.command(epilog="Example: ftnn search digits --trials 20 --params 20000 --minutes 30")(search)


def main() -> None:
    """Run the ``ftnn`` command."""
    app()
