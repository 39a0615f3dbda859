"""Options of the experiment on tables."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...training.options import option
from ..options import ExperimentOptions


@dataclass(frozen=True)
class TableOptions(ExperimentOptions):
    """Options of the experiment on tables."""

    unused: ClassVar[dict[str, str]] = {"linear_lr": "as its network has no Linear layer"}

    data: str | None = option(
        None, "CSV file with a header; separated by commas, semicolons or tabs.", free=True
    )
    decimal: Literal[".", ","] = option(".", "Decimal mark of numbers in the file.")
    target: str | None = option(None, "Column to predict.")
    task: Literal["auto", "classes", "numbers"] = option(
        "auto", "Kind of target; auto treats text and up to 20 distinct integers as classes."
    )
    columns_per_site: int = option(1, "Columns that share a site of the chain.", least=1)
    order: Literal["file", "mutual-information"] = option(
        "file", "Order of the columns along the chain; mutual-information is of training rows."
    )
    held_out: float = option(
        0.2, "Fraction of the rows held out for the test.", above=0.0, below=1.0
    )
    limit: int | None = option(
        None, "Use at most this many training and validation samples, for a trial.", least=1
    )
    bond_dim: int | None = option(
        None,
        "Bond dimension of the network; by default 8 more than its linear start needs.",
        least=1,
    )
    alpha: float | None = option(
        None,
        "Penalty of the linear start; by default 1 for classes, for numbers by leaving one out.",
        above=0.0,
    )
    cautious: bool = option(
        True,
        "Train beyond the linear start only where held-out folds of the training rows gain by it.",
    )
