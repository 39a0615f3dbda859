"""calibrate: set the scales of a model by one look at its inputs."""

import math

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.overlap import overlap
from ..chains.terms import Cores
from ..nonlinear import KAN, Gated
from .coarsen import Coarsen
from .layer import Layer
from .linear import Linear
from .readouts import Readout
from .sequential import Sequential


def calibrate(model: Sequential, cores: Cores) -> None:
    """Scale the weights once so that activations and outputs start at order one on real data.

    Goes through the layers; every :class:`Linear`, :class:`Coarsen` and
    :class:`ftnn.nonlinear.Gated` is divided by the median, over the batch, of the root mean
    square entry of its output, every :class:`Readout` by the root mean square of its outputs. The
    factor is spread evenly over the cores of the weight.

    Parameters
    ----------
    model : Sequential
    cores : tuple of array (batch, left, phys, right)
        A batch of inputs on the backend of the model.
    """
    for layer in model.layers:
        if isinstance(layer, (Linear, Coarsen, Gated)):
            out = layer.apply(cores)
            value, log_scale = overlap(out, out)
            log_square = np.log(to_numpy(value).real) + to_numpy(log_scale)
            log_rms = 0.5 * (log_square - sum(math.log(d) for d in layer.out_dims))
            weight = "B" if isinstance(layer, Gated) else "weight"  # linear in B
            _scale_weight(layer, -float(np.median(log_rms)), weight)
        elif isinstance(layer, Readout):
            value, log_scale = layer.contract(cores)
            peak = float(to_numpy(log_scale).max())
            outputs = to_numpy(value) * np.exp(to_numpy(log_scale) - peak)[:, None]
            rms = float(np.sqrt(np.mean(np.abs(outputs) ** 2)))
            if rms > 0.0:
                _scale_weight(layer, -peak - math.log(rms))
        cores = layer.apply(cores)


def update_grids(model: Sequential, cores: Cores, uniform: float = 0.1) -> None:
    """Move the knots of every KAN of splines to where its inputs are.

    Parameters
    ----------
    model : Sequential
    cores : tuple of array (batch, left, phys, right)
        A batch of inputs on the backend of the model.
    uniform : float
        As of :meth:`ftnn.nonlinear.KAN.update_grid`.
    """
    for layer in model.layers:
        if isinstance(layer, KAN) and layer.basis == "spline":
            layer.update_grid(cores, uniform)
        cores = layer.apply(cores)


def _scale_weight(layer: Layer, log_factor: float, weight: str = "weight") -> None:
    names = [name for name in layer.params if name.startswith(f"{weight}.")]
    factor = math.exp(log_factor / len(names))
    for name in names:
        layer.params[name] = layer.params[name] * factor
