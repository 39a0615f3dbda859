"""ftnn: fully tensorized neural networks.

Inputs, weights and activations are matrix product states and operators, from the first layer
to the last (Hamreras, Singh, Orús, arXiv:2505.20132, section 5).

The names below are imported when first used (PEP 562): ``ftnn --help`` need not wait for quimb.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        encoding,
        experiments,
        growth,
        interpret,
        layers,
        nonlinear,
        plotting,
        sklearn,
        structure,
        tensorized,
        training,
        truncation,
    )
    from .chains.canonical import canonical
    from .chains.environments import environments
    from .chains.operators import MPO
    from .chains.states import MPS
    from .layers.calibration import calibrate
    from .layers.coarsen import Coarsen
    from .layers.files import load, load_encoder, save
    from .layers.layer import Layer
    from .layers.linear import Linear
    from .layers.readouts import Expectation, Readout
    from .layers.residual import Residual
    from .layers.sequential import Sequential
    from .tensorized.conversion import tensorize
    from .tensorized.states import from_dense
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
    "calibrate",
    "canonical",
    "compress",
    "encoding",
    "environments",
    "experiments",
    "from_dense",
    "growth",
    "interpret",
    "layers",
    "load",
    "load_encoder",
    "nonlinear",
    "plotting",
    "save",
    "sklearn",
    "structure",
    "tensorize",
    "tensorized",
    "training",
    "truncation",
]

_ROOMS = (
    "encoding",
    "experiments",
    "growth",
    "interpret",
    "layers",
    "nonlinear",
    "plotting",
    "sklearn",
    "structure",
    "tensorized",
    "training",
    "truncation",
)
_HOMES = {
    "MPO": "chains.operators",
    "MPS": "chains.states",
    "Coarsen": "layers.coarsen",
    "Layer": "layers.layer",
    "Linear": "layers.linear",
    "Expectation": "layers.readouts",
    "Readout": "layers.readouts",
    "Residual": "layers.residual",
    "Sequential": "layers.sequential",
    "calibrate": "layers.calibration",
    "canonical": "chains.canonical",
    "compress": "truncation",
    "environments": "chains.environments",
    "from_dense": "tensorized.states",
    "load": "layers.files",
    "load_encoder": "layers.files",
    "save": "layers.files",
    "tensorize": "tensorized.conversion",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
