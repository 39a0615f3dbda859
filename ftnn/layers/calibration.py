"""calibrate: set the scales of a model from one batch of inputs."""

import math
from typing import Any

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.overlap import overlap
from ..chains.terms import Cores
from .hooks import intercepted
from .layer import Layer
from .readouts import Head


def calibrate(model: Layer, cores: Cores) -> None:
    """Scale the weights once so that activations and outputs start at order one on real data.

    Every layer with a weight, those inside :class:`ftnn.Residual` and nested networks included, is
    divided by the median, over the batch, of the root mean square entry of its output, every
    readout by the root mean square of its outputs. The factor is spread evenly over the cores of
    the weight.

    Parameters
    ----------
    model : Layer
        Changed in place, by :meth:`Layer.rescale` of every layer with operators.
    cores : tuple of array (batch, left, phys, right)
        A batch of inputs on the backend of the model.

    Raises
    ------
    TypeError
        If ``model`` is no layer or ``cores`` no tuple of arrays, such as an MPS.
    """
    _check(model, cores)

    def hook(path: str, layer: Layer, inputs: Cores) -> Any:
        if layer.operators():
            size = _log_size(layer, inputs)
            if size is not None:
                layer.rescale(-size)
        return type(layer).apply(layer, inputs)

    with intercepted(model, hook):
        model.apply(cores)


def update_grids(model: Layer, cores: Cores, uniform: float = 0.1) -> None:
    """Adapt the grid of every layer that has one, such as a KAN of splines, to its inputs.

    Parameters
    ----------
    model : Layer
    cores : tuple of array (batch, left, phys, right)
        A batch of inputs on the backend of the model.
    uniform : float
        As in :meth:`ftnn.nonlinear.KAN.update_grid`.
    """
    _check(model, cores)

    def hook(path: str, layer: Layer, inputs: Cores) -> Any:
        if layer.has_grid:
            layer.update_grid(inputs, uniform)
        return type(layer).apply(layer, inputs)

    with intercepted(model, hook):
        model.apply(cores)


def _log_size(layer: Layer, inputs: Cores) -> float | None:
    """Return the logarithm of the typical size of an output, or None if all are zero."""
    if isinstance(layer, Head):
        value, log_scale = layer.contract(inputs)
        peak = float(to_numpy(log_scale).max())
        outputs = to_numpy(value) * np.exp(to_numpy(log_scale) - peak)[:, None]
        rms = float(np.sqrt(np.mean(np.abs(outputs) ** 2)))
        return peak + math.log(rms) if rms > 0.0 else None
    out = type(layer).apply(layer, inputs)
    if not isinstance(out, tuple):
        rms = float(np.sqrt(np.mean(np.abs(to_numpy(out)) ** 2)))
        return math.log(rms) if rms > 0.0 else None
    value, log_scale = overlap(out, out)
    squares = to_numpy(value).real
    if not squares.any():
        return None
    with np.errstate(divide="ignore"):
        log_square = np.log(squares) + to_numpy(log_scale)
    entries = sum(math.log(core.shape[2]) for core in out)
    size = float(np.median(0.5 * (log_square - entries)))
    return size if math.isfinite(size) else None


def _check(model: Layer, cores: Cores) -> None:
    if not isinstance(model, Layer):
        raise TypeError(f"model is a {type(model).__name__}, expected a Layer")
    if not isinstance(cores, (tuple, list)):
        raise TypeError(
            f"cores is a {type(cores).__name__}, expected a tuple of arrays (batch, left, phys, "
            "right); of an MPS give its .cores"
        )
