"""ftnn: fully tensorized neural networks.

Inputs, weights and activations are matrix product states and operators, from the first layer
to the last (Hamreras, Singh, Orús, arXiv:2505.20132, section 5).

The names below are imported when first used (PEP 562): ``ftnn --help`` need not wait for quimb.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import analysis, encoding, nonlinear, plotting, training, truncation
    from .calibration import calibrate
    from .coarsening import Coarsen
    from .layer import Layer
    from .layers import Linear, Residual, Sequential
    from .operators import MPO
    from .readouts import Expectation, Readout
    from .serialization import load, load_encoder, save
    from .states import MPS
    from .truncation.compress import compress

__version__ = "0.2.0"
__all__ = [
    "MPO",
    "MPS",
    "Coarsen",
    "Expectation",
    "Layer",
    "Linear",
    "Readout",
    "Residual",
    "Sequential",
    "analysis",
    "calibrate",
    "compress",
    "encoding",
    "load",
    "load_encoder",
    "nonlinear",
    "plotting",
    "save",
    "training",
    "truncation",
]

_MODULES = ("analysis", "encoding", "nonlinear", "plotting", "training", "truncation")
_HOMES = {
    "MPO": "operators",
    "MPS": "states",
    "Coarsen": "coarsening",
    "Layer": "layer",
    "Linear": "layers",
    "Expectation": "readouts",
    "Readout": "readouts",
    "Residual": "layers",
    "Sequential": "layers",
    "calibrate": "calibration",
    "compress": "truncation",
    "load": "serialization",
    "load_encoder": "serialization",
    "save": "serialization",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
