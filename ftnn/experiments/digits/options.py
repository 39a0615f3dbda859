"""Options of the experiment on digits."""

from dataclasses import dataclass, field

from ...training.options import option
from ..options import ExperimentOptions, ImageNetworkOptions


@dataclass(frozen=True)
class DigitsOptions(ExperimentOptions):
    """Options of the experiment on digits."""

    limit: int | None = option(
        None, "Train and validate on at most so many samples, for a trial.", least=1
    )
    network: ImageNetworkOptions = field(default=ImageNetworkOptions())
