"""Layers that map states to states, and those that end a network."""

from .coarsen import Coarsen
from .layer import Layer
from .linear import Linear
from .readouts import Expectation, Readout
from .residual import Residual
from .sequential import Sequential

__all__ = ["Coarsen", "Expectation", "Layer", "Linear", "Readout", "Residual", "Sequential"]
