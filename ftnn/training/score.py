"""Score: how well a model does, as one number a sample."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """What a score is called, how it reads, and which way is better.

    Attributes
    ----------
    name : str
        Of the metrics: ``train_NAME`` and ``val_NAME``.
    short : str
        Heading of a column.
    spec : str
        Format of a number.
    higher_is_better : bool
    """

    name: str
    short: str
    spec: str
    higher_is_better: bool

    def better(self, new: float, old: float) -> bool:
        """Whether ``new`` is better than ``old``."""
        return new > old if self.higher_is_better else new < old


ACCURACY = Score("accuracy", "acc", ".2%", higher_is_better=True)
"""Share of the samples whose class is found."""

ERROR = Score("error", "error", ".2e", higher_is_better=False)
"""Relative distance of a state from the one that was to be found."""
