"""Nonlinear layers, on individual cores and on vectors, and normalization."""

from .dropout import Dropout
from .elementwise import Elementwise
from .feature_map import FeatureMap
from .gated import Gated, Polynomial
from .gauge import SketchGauge, SVDGauge
from .kan import KAN
from .normalization import CoreNorm, LayerNorm, RMSNorm
from .pointwise import Pointwise

__all__ = [
    "KAN",
    "CoreNorm",
    "Dropout",
    "Elementwise",
    "FeatureMap",
    "Gated",
    "LayerNorm",
    "Pointwise",
    "Polynomial",
    "RMSNorm",
    "SVDGauge",
    "SketchGauge",
]
