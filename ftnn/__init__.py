"""ftnn: fully tensorized neural networks.

Inputs, weights and activations are matrix product states and operators, from the first layer
to the last (Hamreras, Singh, Orús, arXiv:2505.20132, section 5).
"""

from . import encoding, nonlinear
from .layer import Layer
from .layers import Linear, Readout, Residual, Sequential, calibrate
from .operators import MPO
from .serialization import load, load_encoder, save
from .states import MPS
from .truncation import compress

__version__ = "0.1.0"
__all__ = [
    "MPO",
    "MPS",
    "Layer",
    "Linear",
    "Readout",
    "Residual",
    "Sequential",
    "calibrate",
    "compress",
    "encoding",
    "load",
    "load_encoder",
    "nonlinear",
    "save",
]
