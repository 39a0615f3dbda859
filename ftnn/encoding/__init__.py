"""Data as states: images, and functions on quantics grids."""

from .functions import from_function, on_coarser_grid
from .images import AmplitudeEncoder, Encoder, ProductEncoder, site_order

__all__ = [
    "AmplitudeEncoder",
    "Encoder",
    "ProductEncoder",
    "from_function",
    "on_coarser_grid",
    "site_order",
]
