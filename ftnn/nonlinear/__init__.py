"""Nonlinear layers that act on individual cores."""

from .kan import KAN
from .normalization import RMSNorm

__all__ = ["KAN", "RMSNorm"]
