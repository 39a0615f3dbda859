"""What a model says about samples, on the backend it lives on; torch is not needed."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.backend import as_like, to_numpy
from ..chains.distance import relative_squares
from ..chains.terms import Cores
from ..encoding import Encoder
from ..layers.layer import Layer
from .base import rows

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says about samples with targets.

    Attributes
    ----------
    outputs : float64 array (n, num_outputs) or None
        Logits; None where the model returns states.
    score, loss : float
        For labels the accuracy and the mean cross entropy; for states the mean relative error and
        the mean of its square.
    samples_per_s : float
        Encoding and forward pass, after a warm-up.
    """

    outputs: np.ndarray | None
    score: float
    loss: float
    samples_per_s: float


def predict(model: Layer, encoder: Encoder | None, inputs: Any, targets: Any) -> Prediction:
    """Apply a model to samples on the backend it lives on.

    Parameters
    ----------
    model : Layer
    encoder : Encoder or None
        None where the inputs are states.
    inputs : float array (n, height, width) or tuple of array (n, left, phys, right)
    targets : int array (n,) or tuple of array (n, left, phys, right)

    Raises
    ------
    ValueError
        If the model returns a NaN or an infinity.
    """
    n = len(targets[0] if isinstance(targets, tuple) else targets)
    _judged(model, encoder, rows(inputs, slice(1)), rows(targets, slice(1)))
    begun = time.perf_counter()
    parts = [
        _judged(model, encoder, rows(inputs, part), rows(targets, part))
        for part in (slice(start, start + _CHUNK) for start in range(0, n, _CHUNK))
    ]
    seconds = time.perf_counter() - begun
    outputs, scores, losses = zip(*parts, strict=True)
    return Prediction(
        None if isinstance(targets, tuple) else np.concatenate(outputs),
        float(np.mean(np.concatenate(scores))),
        float(np.mean(np.concatenate(losses))),
        n / max(seconds, 1e-9),
    )


def _judged(
    model: Layer, encoder: Encoder | None, inputs: Any, targets: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute outputs, scores and losses of a few samples."""
    like = next(iter(model.named_arrays().values()))
    cores: Cores = inputs if encoder is None else encoder.encode(inputs)
    # BLAS may flag finite numbers as invalid, see numpy issue 24067; what is not finite is told
    with np.errstate(invalid="ignore"):
        output = model.apply(tuple(as_like(core, like) for core in cores))
        if isinstance(targets, tuple):
            squares = relative_squares(output, tuple(as_like(core, like) for core in targets))
            losses = _finite(squares)
            return losses, np.sqrt(np.maximum(losses, 0.0)), losses
        logits = _finite(output)
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]
    return logits, (logits.argmax(axis=1) == targets).astype(np.float64), losses


def _finite(x: Any) -> np.ndarray:
    found = to_numpy(x).astype(np.float64)
    if not np.isfinite(found).all():
        raise ValueError("the model returns NaN or infinite numbers; train again with a lower lr")
    return found
