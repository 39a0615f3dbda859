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
        f"Stages before the last one: each trains for half the time of the next; at most "
        f"{MOST_HALVINGS}.",
        least=0,
        below=MOST_HALVINGS + 1,
    )
    halvings: int = option(
        0,
        "Train for time / 2^halvings with depth / 2^halvings layers: what a stage does.",
        least=0,
        below=MOST_HALVINGS + 1,
    )
    squared_lr: float = option(
        3e-3, "Peak learning rate of stages that start with the square of a layer.", above=0.0
    )
    repeated_lr: float = option(
        1e-3, "Peak learning rate of stages that start with layers repeated.", above=0.0
    )
    samples: int = option(128, "Pairs of states to train on.", least=1)
    limit: int | None = option(
        None, "Use at most this many training and validation samples, for a trial.", least=1
    )
    data: str | None = option(
        None, "Folder of cached states; by default the user's cache.", free=True
    )
    depth: int = option(4, "Number of layers, a power of two.", least=1)
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
        if self.halvings and self.doublings:
            raise ValueError(
                f"halvings is {self.halvings} and doublings {self.doublings}; one stage has "
                "doublings 0"
            )

    @property
    def layers(self) -> int:
        """Number of layers at this number of halvings."""
        return max(1, self.depth >> self.halvings)


def stages(options: DynamicsOptions) -> tuple[DynamicsOptions, ...] | None:
    """Split training in stages of time / 2^doublings, ..., time / 2, time."""
    if options.doublings == 0:
        return None
    one = replace_values(options, {"doublings": 0})
    parts = [replace_values(one, {"halvings": options.doublings})]
    for n in range(options.doublings - 1, -1, -1):
        part = replace_values(one, {"halvings": n, "start": None})
        lr = options.squared_lr if part.layers == parts[-1].layers else options.repeated_lr
        parts.append(replace_values(part, {"lr": lr}))
    return tuple(parts)
