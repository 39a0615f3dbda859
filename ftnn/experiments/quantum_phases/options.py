"""Options of the experiment on quantum phases."""

from dataclasses import dataclass, field

from ...training.options import option
from ..options import ExperimentOptions, LayerOptions


@dataclass(frozen=True)
class PhasesNetworkOptions(LayerOptions):
    """Options of a network on ground states."""

    def idle(self) -> dict[str, str]:
        """Return the options of the layers, hidden dimension included, where there are none."""
        return super().idle() | ({"phys": "at depth 0"} if self.depth == 0 else {})


@dataclass(frozen=True)
class PhasesOptions(ExperimentOptions):
    """Options of the experiment on quantum phases."""

    data: str | None = option(
        None, "Folder of cached ground states; by default the user's cache.", free=True
    )
    sites: int = option(45, "Sites of the chain.", least=3, remedy="the chain needs at least 3")
    grid: int = option(32, "Points per side of the phase diagram.", least=2)
    input_bond: int = option(16, "Bond dimension of states as inputs.", least=1)
    augment: bool = option(False, "Change training states at random within their phase.")
    network: PhasesNetworkOptions = field(default=PhasesNetworkOptions())
