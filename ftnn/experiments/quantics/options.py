"""Options of the experiments on functions, and their split in two stages."""

from dataclasses import dataclass
from typing import ClassVar

from ...training.options import option, replace_values
from ..options import ExperimentOptions

COARSE = 10
"""Number of sites of the grid of the first of two stages."""


@dataclass(frozen=True)
class QuanticsOptions(ExperimentOptions):
    """Options of the experiments on functions."""

    unused: ClassVar[dict[str, str]] = {"label_smoothing": "as its targets are functions"}

    sites: int = option(
        20,
        "Sites of the chain: the bits of the grid.",
        least=2,
        remedy="the grid has 2^sites points",
    )
    limit: int | None = option(
        None, "Use at most this many training and validation samples, for a trial.", least=1
    )
    fine_epochs: int = option(
        0,
        f"Epochs on a grid finer than 2^{COARSE} points, after those on one of 2^{COARSE}; 0 "
        "trains on the finer one only.",
        least=0,
    )
    fine_lr: float = option(1e-3, "Peak learning rate of the fine epochs.", above=0.0)
    bond_dim: int = option(4, "Bond dimension of the weights.", least=1)
    max_bond: int = option(8, "Bond dimension of the activations.", least=1)

    def idle(self) -> dict[str, str]:
        """Return the options that only two-stage training uses, if there is one stage."""
        if self.fine_epochs and self.sites > COARSE:
            return {}
        where = f"with sites {self.sites} and fine_epochs {self.fine_epochs}"
        names = ("fine_epochs", "fine_lr") if self.fine_epochs else ("fine_lr",)
        return dict.fromkeys(names, where)


def stages(options: QuanticsOptions) -> tuple[QuanticsOptions, QuanticsOptions] | None:
    """Split training with ``fine_epochs`` in two: on the coarse grid, and on the full one."""
    if options.fine_epochs == 0 or options.sites <= COARSE:
        return None
    one = replace_values(options, {"fine_epochs": 0, "fine_lr": QuanticsOptions.fine_lr})
    fine = {"epochs": options.fine_epochs, "lr": options.fine_lr, "start": None}
    return replace_values(one, {"sites": COARSE}), replace_values(one, fine)
