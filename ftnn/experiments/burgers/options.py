"""Options of the experiment on the Burgers equation, and their split in two stages."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...training.options import option, replace_values
from ..options import GridOptions


@dataclass(frozen=True)
class BurgersOptions(GridOptions):
    """Options of the experiment on the Burgers equation."""

    unused: ClassVar[dict[str, str]] = {"label_smoothing": "as its targets are functions"}

    initial: Literal["gaussian", "centered", "waves"] = option(
        "gaussian",
        "Random initial functions: Gaussian of covariance 625 (25 - Laplace)^-2; the same with "
        "mean zero; or four Fourier modes.",
    )
    viscosity: float = option(0.1, "Viscosity.", least=1e-3)
    time: float = option(1.0, "Time of the evolution.", above=0.0)
    fine_lr: float = option(1e-4, "Peak learning rate of the fine epochs.", above=0.0)
    coarse: int = option(  # type: ignore[misc]
        6,
        "Sites of the coarse grid, beyond which weights start as identities.",
        least=2,
        remedy="the coarse grid has 2^coarse points",
    )
    features: Literal["sine", "linear"] = option(
        "sine", "What the gated layers see: sines of linear functions, or linear functions."
    )
    blocks: int = option(
        1, "Number of residual blocks, each with its own features and gated layers.", least=1
    )
    channels: int = option(4, "Number of such functions.", least=1)
    depth: int = option(2, "Number of gated layers of a block.", least=0)
    bond_dim: int = option(
        8, "Bond dimension of the weights.", least=2, remedy="a mean takes a channel of its own"
    )
    max_bond: int = option(16, "Largest bond dimension of the activations.", least=1)


def stages(options: BurgersOptions) -> tuple[BurgersOptions, BurgersOptions] | None:
    """Split training with ``fine_epochs`` in two: on the coarse grid, and on the full one."""
    if options.fine_epochs == 0 or options.sites <= options.coarse:
        return None
    one = replace_values(options, {"fine_epochs": 0, "fine_lr": BurgersOptions.fine_lr})
    fine = {"epochs": options.fine_epochs, "lr": options.fine_lr, "start": None}
    return replace_values(one, {"sites": options.coarse}), replace_values(one, fine)
