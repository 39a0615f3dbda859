"""Options of the experiments on functions, and their split in two stages."""

from dataclasses import dataclass
from typing import ClassVar

from ...training.options import option, replace_values
from ..options import GridOptions

COARSE = 10
"""Number of sites of the grid of the first of two stages."""


@dataclass(frozen=True)
class QuanticsOptions(GridOptions):
    """Options of the experiments on functions."""

    unused: ClassVar[dict[str, str]] = {"label_smoothing": "as its targets are functions"}

    coarse: ClassVar[int] = COARSE

    bond_dim: int = option(4, "Bond dimension of the weights.", least=1)
    max_bond: int = option(8, "Bond dimension of the activations.", least=1)


def stages(options: QuanticsOptions) -> tuple[QuanticsOptions, QuanticsOptions] | None:
    """Split training with ``fine_epochs`` in two: on the coarse grid, and on the full one."""
    if options.fine_epochs == 0 or options.sites <= COARSE:
        return None
    one = replace_values(options, {"fine_epochs": 0, "fine_lr": QuanticsOptions.fine_lr})
    fine = {"epochs": options.fine_epochs, "lr": options.fine_lr, "start": None}
    return replace_values(one, {"sites": COARSE}), replace_values(one, fine)
