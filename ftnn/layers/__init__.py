"""Layers that map states to states, and output layers."""

from .calibration import calibrate, update_grids
from .coarsen import Coarsen
from .layer import Layer
from .linear import Linear
from .readouts import Expectation, Readout
from .residual import Residual
from .sequential import Sequential
from .surgery import parameter_map, replace

__all__ = [
    "Coarsen",
    "Expectation",
    "Layer",
    "Linear",
    "Readout",
    "Residual",
    "Sequential",
    "calibrate",
    "parameter_map",
    "replace",
    "update_grids",
]
