"""Nonlinear layers, on individual cores and on vectors, and normalization."""

from .block_map import BlockMap
from .dropout import Dropout
from .elementwise import Elementwise
from .feature_map import FeatureMap
from .gated import Gated, Polynomial
from .gauge import SketchGauge, SVDGauge
from .kan import KAN
from .kan_fit import KANFit, fit_kan
from .normalization import CoreNorm, LayerNorm, RMSNorm
from .pointwise import Pointwise
from .product_map import ProductMap

__all__ = [
    "KAN",
    "BlockMap",
    "CoreNorm",
    "Dropout",
    "Elementwise",
    "FeatureMap",
    "Gated",
    "KANFit",
    "LayerNorm",
    "Pointwise",
    "Polynomial",
    "ProductMap",
    "RMSNorm",
    "SVDGauge",
    "SketchGauge",
    "fit_kan",
]
