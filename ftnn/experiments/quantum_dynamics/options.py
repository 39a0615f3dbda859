"""Options of the experiment on quantum dynamics, and its curriculum: stages of doubled time."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...training.options import option, replace_values
from ..options import ExperimentOptions

MOST_HALVINGS = 5
"""States are kept at ``time`` and at its halves, quarters, ..., to this power of two."""


@dataclass(frozen=True)
class DynamicsOptions(ExperimentOptions):
    """Options of the experiment on quantum dynamics."""

    unused: ClassVar[dict[str, str]] = {
        "label_smoothing": "as its targets are states",
    }

    sites: int = option(40, "Sites of the chain.", least=2, remedy="pairs of sites interact")
    hamiltonian: Literal["ising", "imaginary"] = option(
        "ising",
        "Ising chain in a tilted field; or a chain of imaginary matrix elements, whose evolution "
        "is real.",
    )
    time: float = option(2.0, "Time of the evolution, in units of 1/J.", above=0.0)
    doublings: int = option(
        MOST_HALVINGS,
        "The first operator is fitted for time / 2^doublings; then the time is doubled again and "
        f"again; at most {MOST_HALVINGS}.",
        least=0,
        below=MOST_HALVINGS + 1,
    )
    halvings: int = option(
        0,
        "Train for time / 2^halvings with depth / 2^halvings layers: what a stage does.",
        least=0,
        below=MOST_HALVINGS + 1,
    )
    samples: int = option(128, "Pairs of states to train on.", least=1)
    limit: int | None = option(
        None, "Use at most this many training and validation samples, for a trial.", least=1
    )
    data: str | None = option(
        None, "Folder of cached states; by default the user's cache.", free=True
    )
    depth: int = option(
        4,
        "Number of layers, a power of two.",
        least=1,
        below=2**MOST_HALVINGS + 1,
    )
    sweeps: int = option(20, "Most sweeps of every fit of a single layer.", least=1)
    error_lr: float = option(
        4e-2,
        "Peak learning rate of every stage, as a multiple of the relative error of its start; at "
        "most lr.",
        least=0.0,
        remedy="0 is off, the rate is lr",
    )
    bond_dim: int = option(4, "Bond dimension of the weights.", least=1)
    max_bond: int = option(20, "Bond dimension of the activations in training.", least=1)
    test_bond: int = option(64, "Bond dimension of the activations in tests.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth & (self.depth - 1):
            below = 1 << (self.depth.bit_length() - 1)
            raise ValueError(
                f"depth is {self.depth}, expected a power of two, as stages double it; try "
                f"{below} or {2 * below}"
            )

    @property
    def layers(self) -> int:
        """Number of layers at this number of halvings."""
        return max(1, self.depth >> self.halvings)

    @property
    def single(self) -> int:
        """Number of halvings of the time of a single layer."""
        return max(self.halvings, self.depth.bit_length() - 1)


def stages(options: DynamicsOptions) -> tuple[DynamicsOptions, ...] | None:
    """Split training in stages of doubled time, the first of them with two layers."""
    if options.start is not None or options.single - options.halvings < 2:
        return None
    rest = range(options.single - 1, options.halvings - 1, -1)
    return tuple(replace_values(options, {"halvings": n}) for n in rest)
