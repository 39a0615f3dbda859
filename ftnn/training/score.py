"""Score: name and direction of the number by which models are compared."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """Name, format and direction of a score, which is a mean over samples.

    Attributes
    ----------
    name : str
        Name in the metrics: ``train_NAME`` and ``val_NAME``.
    short : str
        Column heading.
    spec : str
        Format specification.
    higher_is_better : bool
    """

    name: str
    short: str
    spec: str
    higher_is_better: bool

    def better(self, new: float, old: float) -> bool:
        """Return whether ``new`` is better than ``old``."""
        return new > old if self.higher_is_better else new < old


ACCURACY = Score("accuracy", "acc", ".2%", higher_is_better=True)
"""Fraction of the samples whose largest logit is that of their label."""

ERROR = Score("error", "error", ".2e", higher_is_better=False)
"""Relative distance of a state from its target."""

DEVIATION = Score("deviation", "dev", ".2e", higher_is_better=False)
"""Mean absolute deviation of the outputs from their targets."""
