"""Options of the experiment on two scales, and their split in two stages."""

from dataclasses import dataclass
from typing import ClassVar

from ...training.options import option, replace_values
from ..options import GridOptions

COARSE, COARSE_DEPTH = 6, 3
"""Number of sites of the grid of the first of two stages, and the most gated layers there."""


@dataclass(frozen=True)
class TwoScaleOptions(GridOptions):
    """Options of the experiment on two scales."""

    unused: ClassVar[dict[str, str]] = {
        "label_smoothing": "as its targets are functions",
        "linear_lr": "as its Linear layers are not trained",
    }

    coarse: ClassVar[int] = COARSE

    sites: int = option(
        30,
        "Sites of the chain: the bits of the grid.",
        least=6,
        remedy="the grid has 2^sites points, 32 or more in a period",
    )
    fine_lr: float = option(1e-6, "Peak learning rate of the fine epochs.", above=0.0)
    depth: int = option(5, "Number of gated layers: each doubles the order.", least=1)
    max_bond: int = option(24, "Largest bond dimension of the activations.", least=1)
    noise: float = option(
        1e-2, "Noise on the trained weights; 0 starts with the Neumann product.", least=0.0
    )


def stages(options: TwoScaleOptions) -> tuple[TwoScaleOptions, TwoScaleOptions] | None:
    """Split training with ``fine_epochs`` in two: on the coarse grid, and on the full one.

    Gated layers beyond COARSE_DEPTH come in the second stage. Each squares the residual of the
    trained product before it, so few steps suffice there.
    """
    if options.fine_epochs == 0 or options.sites <= COARSE:
        return None
    one = replace_values(options, {"fine_epochs": 0, "fine_lr": TwoScaleOptions.fine_lr})
    fine = {"epochs": options.fine_epochs, "lr": options.fine_lr, "start": None}
    coarse = {"sites": COARSE, "depth": min(options.depth, COARSE_DEPTH)}
    return replace_values(one, coarse), replace_values(one, fine)
