"""Data as states: images, tables, and functions on quantics grids."""

from .callables import from_callable, sampled_error
from .encoder import Encoder
from .functions import from_function, on_coarser_grid
from .grids import QuanticsGrid
from .images import AmplitudeEncoder, ProductEncoder
from .order import site_order
from .tables import TableEncoder

__all__ = [
    "AmplitudeEncoder",
    "Encoder",
    "ProductEncoder",
    "QuanticsGrid",
    "TableEncoder",
    "from_callable",
    "from_function",
    "on_coarser_grid",
    "sampled_error",
    "site_order",
]
