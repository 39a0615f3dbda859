"""Nonlinear layers, on individual cores and on vectors, and normalization."""

from .elementwise import Elementwise
from .gated import Gated, Polynomial
from .gauge import SketchGauge, SVDGauge
from .kan import KAN
from .normalization import CoreNorm, LayerNorm, RMSNorm
from .pointwise import Pointwise

__all__ = [
    "KAN",
    "CoreNorm",
    "Elementwise",
    "Gated",
    "LayerNorm",
    "Pointwise",
    "Polynomial",
    "RMSNorm",
    "SVDGauge",
    "SketchGauge",
]
