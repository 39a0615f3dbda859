"""Options of the experiment on digits."""

from dataclasses import dataclass, field

from ...training.options import option
from ..options import ExperimentOptions, ImageNetworkOptions


@dataclass(frozen=True)
class DigitsOptions(ExperimentOptions):
    """Options of the experiment on digits."""

    limit: int | None = option(
        None, "Use at most this many training and validation samples, for a trial.", least=1
    )
    network: ImageNetworkOptions = field(default=ImageNetworkOptions())
