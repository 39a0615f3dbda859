"""Options common to all experiments, and those of shared networks.

This module imports little, as do the files ``options.py`` of the experiments, to keep help texts
fast.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from ..training.config import TrainConfig
from ..training.options import Options, option


@dataclass(frozen=True)
class ExperimentOptions(Options):
    """Options of an experiment; a subclass adds its own fields.

    Attributes
    ----------
    start : str, optional
        Run folder or model file with the initial weights.
    train : TrainConfig

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from ftnn.experiments import ExperimentOptions, option
    >>> @dataclass(frozen=True)
    ... class Mine(ExperimentOptions):
    ...     width: int = option(8, "Width of the network.", least=1)
    >>> Mine(width=4).train.epochs
    20
    """

    unused: ClassVar[dict[str, str]] = {}
    """Options of the training without any use here, each with the reason; help texts omit them."""

    start: str | None = option(None, "Run folder or model file with the initial weights.")
    train: TrainConfig = field(default=TrainConfig())


@dataclass(frozen=True)
class GridOptions(ExperimentOptions):
    """Options of an experiment on grids of 2^sites points, the first of two stages on a coarse one.

    Attributes
    ----------
    coarse : int
        Number of sites of the coarse grid, of the class.
    """

    coarse: ClassVar[int]

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
        "Epochs on the whole grid, after those on a coarse one; 0 trains on the whole one only.",
        least=0,
    )
    fine_lr: float = option(1e-3, "Peak learning rate of the fine epochs.", above=0.0)

    def idle(self) -> dict[str, str]:
        """Return the options that only two-stage training uses, if there is one stage."""
        if self.fine_epochs and self.sites > self.coarse:
            return {}
        where = f"with sites {self.sites} and fine_epochs {self.fine_epochs}"
        names = ("fine_epochs", "fine_lr") if self.fine_epochs else ("fine_lr",)
        return dict.fromkeys(names, where)


@dataclass(frozen=True)
class LayerOptions(Options):
    """Options of a network of truncated layers and a readout."""

    title: ClassVar[str] = "Network"

    phys: int = option(4, "Physical dimension of hidden layers.", least=1)
    bond_dim: int = option(4, "Bond dimension of the weights.", least=1)
    max_bond: int = option(8, "Bond dimension of the activations.", least=1)
    depth: int = option(2, "Number of hidden layers.", least=0)
    readout_bond: int = option(8, "Bond dimension of the readout.", least=1)

    def idle(self) -> dict[str, str]:
        """Return the options of the layers where there are none."""
        return dict.fromkeys(("bond_dim", "max_bond"), "at depth 0") if self.depth == 0 else {}


@dataclass(frozen=True)
class ImageNetworkOptions(LayerOptions):
    """Options of :func:`ftnn.experiments.networks.image_network`."""

    nonlinearity: Literal["kan", "tanh", "relu", "none"] = option(
        "kan", "Nonlinearity after every hidden layer."
    )


@dataclass(frozen=True)
class PatchNetworkOptions(ImageNetworkOptions):
    """Options of :func:`ftnn.experiments.networks.patch_network`."""

    features: int = option(9, "Trainable features of a patch, including the constant one.", least=2)
    hidden: int = option(64, "Hidden dimension of the trainable features.", least=1)
    products: int = option(
        0, "Layers of products with neighbouring patches, after the features.", least=0
    )
    channels: int = option(
        25, "Physical dimension between these layers, including the constant one.", least=2
    )
    gates: int = option(
        16, "Products with the patch itself and with each neighbour, of every layer.", least=1
    )
    merge: bool = option(
        False,
        "Multiply patches half as wide with their neighbours, then merge 2 x 2 of them, in place "
        "of the trainable features.",
    )
    dropout: float = option(
        0.0, "Share of the features dropped in training.", least=0.0, below=1.0, remedy="0 is off"
    )
    block_bond: int = option(
        8, "Bond dimension within blocks of sites that are merged into one.", least=1
    )

    @property
    def merges(self) -> bool:
        """Whether patches are halved and merged, for which there must be products."""
        return self.merge and self.products > 0

    def idle(self) -> dict[str, str]:
        """Return the options of the layers, and of what follows them, where there are none."""
        found = super().idle() | ({"nonlinearity": "at depth 0"} if self.depth == 0 else {})
        if self.products == 0:
            # merge=False is not idle: it says what products=0 implies
            names = ("channels", "gates", "merge") if self.merge else ("channels", "gates")
            found |= dict.fromkeys(names, "at products 0")
        elif self.merge:
            found |= {"hidden": "with merge"}
        return found
