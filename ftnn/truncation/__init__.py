"""Truncation of lazy chains."""

from .compiled import compiled
from .compress import Truncation, compress, truncate
from .methods import CLAIMS, METHODS, Method

__all__ = ["CLAIMS", "METHODS", "Method", "Truncation", "compiled", "compress", "truncate"]
