"""Samples with targets in three splits, and the selection of held-out samples."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ..training.inputs import count_samples, select_rows
from ..training.score import ACCURACY, DEVIATION, ERROR, Score

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Data:
    """Samples with targets, split in three.

    Inputs suit the encoder, an array (n, ...) such as images (n, height, width), or are states,
    tuple of array (n, left, phys, right). Targets are labels, int64 array (n,), numbers, float
    array (n,), or states.

    Attributes
    ----------
    train_inputs, val_inputs, test_inputs : array or tuple of array
    train_targets, val_targets, test_targets : array or tuple of array
    class_names : tuple of str
        Empty unless the targets are labels.
    """

    train_inputs: Any
    train_targets: Any
    val_inputs: Any
    val_targets: Any
    test_inputs: Any
    test_targets: Any
    class_names: tuple[str, ...] = ()

    @property
    def score(self) -> Score:
        """Score of a model: accuracy of classes, deviation of numbers, error of states."""
        return score_of(self.train_targets)

    def split(self, name: str) -> tuple[Any, Any]:
        """Return inputs and targets of ``"train"``, ``"val"`` or ``"test"``."""
        if name not in SPLITS:
            raise ValueError(f"split is {name!r}, expected one of {', '.join(SPLITS)}")
        return getattr(self, f"{name}_inputs"), getattr(self, f"{name}_targets")

    def size(self, name: str) -> int:
        """Count the samples of a split."""
        return count_samples(self.split(name)[1])

    def limited(self, limit: int | None) -> Self:
        """Keep the first ``limit`` samples for training and for validation; all if None."""
        if limit is None:
            return self
        names = [f"{part}_{what}" for part in ("train", "val") for what in ("inputs", "targets")]
        first = {name: select_rows(getattr(self, name), slice(limit)) for name in names}
        return replace(self, **first)


@dataclass(frozen=True, eq=False)
class NewSamples:
    """New samples for a trained model, from a file or a folder.

    Attributes
    ----------
    inputs : array (n, ...)
    targets : array (n,) or None
        As in :class:`Data`; None if unknown.
    class_names : tuple of str
        Empty unless the targets are labels.
    names : list of str
        Name of every sample in a table of predictions.
    """

    inputs: Any
    targets: Any
    class_names: tuple[str, ...]
    names: list[str]

    @property
    def score(self) -> Score:
        """The score, as in :class:`Data`."""
        return score_of(self.targets)


def score_of(targets: Any) -> Score:
    """Return the score for targets: labels, numbers or states."""
    if isinstance(targets, tuple):
        return ERROR
    return ACCURACY if targets.dtype.kind in "iu" else DEVIATION


def hold_out(
    inputs: np.ndarray,
    targets: np.ndarray,
    size: int,
    seed: int,
    stratify: bool = True,
    what: str = "images",
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shuffle samples and hold some out, by default with the same share of every class.

    Parameters
    ----------
    inputs, targets : array (n, ...)
    size : int
        Samples to hold out.
    seed : int
    stratify : bool
        Whether the targets are labels, of which every class is held out in proportion.
    what : str
        Word for samples in errors, in the plural.

    Returns
    -------
    inputs, targets, held_inputs, held_targets : array
        The remaining and the held-out samples.
    """
    from sklearn.model_selection import train_test_split

    classes = len(np.unique(targets)) if stratify else 1
    if size < classes or len(targets) - size < classes:
        raise ValueError(
            f"{len(targets)} {what} are too few for a split with {classes} classes"
            if stratify
            else f"{len(targets)} {what} are too few for a split; give more"
        )
    stay, held = train_test_split(
        np.arange(len(targets)),
        test_size=size,
        random_state=seed,
        stratify=targets if stratify else None,
    )
    return inputs[stay], targets[stay], inputs[held], targets[held]
