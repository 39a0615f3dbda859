"""Data as states: images, tables, and functions on quantics grids."""

from .encoder import Encoder
from .functions import from_function, on_coarser_grid
from .images import AmplitudeEncoder, ProductEncoder
from .order import site_order
from .tables import TableEncoder

__all__ = [
    "AmplitudeEncoder",
    "Encoder",
    "ProductEncoder",
    "TableEncoder",
    "from_function",
    "on_coarser_grid",
    "site_order",
]
