"""Data as states: images, tables, sequences, functions and quantum states."""

from .callables import from_callable, sampled_error
from .encoder import Encoder
from .functions import from_function, on_coarser_grid
from .grids import QuanticsGrid
from .images import AmplitudeEncoder, ProductEncoder
from .order import site_order
from .sequences import SequenceEncoder, TokenEncoder
from .states import basis_states, bloch_angles, bloch_states, from_statevectors
from .tables import TableEncoder

__all__ = [
    "AmplitudeEncoder",
    "Encoder",
    "ProductEncoder",
    "QuanticsGrid",
    "SequenceEncoder",
    "TableEncoder",
    "TokenEncoder",
    "basis_states",
    "bloch_angles",
    "bloch_states",
    "from_callable",
    "from_function",
    "from_statevectors",
    "on_coarser_grid",
    "sampled_error",
    "site_order",
]
