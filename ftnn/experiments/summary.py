"""Summary of a run: the test set, used once, and reports on the model."""

import platform
from importlib.metadata import version
from typing import Any

import numpy as np

from ..arrays.backend import convert
from ..chains.terms import Cores
from ..encoding import Encoder
from ..interpret.report import StateRow, entanglement_report
from ..layers.layer import Layer
from ..training.inputs import select_rows
from .splits import Data

SAMPLES = 32
"""Number of validation samples in a report."""

SAMPLES_OF_CLASS = 20
"""Number of validation samples per class in a report by class."""


def encoded(encoder: Encoder | None, inputs: Any) -> Cores:
    """Return inputs as states on NumPy."""
    if encoder is not None:
        return encoder.encode(inputs)
    return tuple(convert(core, "numpy") for core in inputs)


def sample_cores(encoder: Encoder | None, data: Data, count: int = SAMPLES) -> Cores:
    """Return the states of the first ``count`` validation samples."""
    return encoded(encoder, select_rows(data.val_inputs, slice(count)))


def class_report(model: Layer, encoder: Encoder | None, data: Data) -> tuple[StateRow, ...]:
    """Report entanglement by class, for the first validation samples of every class.

    Without classes, all samples form one.
    """
    classes = max(1, len(data.class_names))
    labels = data.val_targets if data.class_names else np.zeros(data.size("val"), dtype=np.int64)
    chosen = [np.flatnonzero(labels == n)[:SAMPLES_OF_CLASS] for n in range(classes)]
    index = np.concatenate(chosen)
    cores = encoded(encoder, select_rows(data.val_inputs, index))
    return entanglement_report(model, cores, labels[index], classes)


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Return the confusion matrix (classes, classes): rows are true classes.

    Examples
    --------
    >>> print(confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2))
    [[1 0]
     [1 1]]
    """
    flat = np.bincount(classes * labels + predictions, minlength=classes**2)
    return flat.reshape(classes, classes)


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    from .. import __version__

    others = {name: version(name) for name in ("numpy", "autoray", "quimb", "torch")}
    return {"ftnn": __version__, "python": platform.python_version()} | others
