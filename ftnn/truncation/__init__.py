"""Truncation of lazy chains."""

from .compress import Truncation, compress, truncate
from .methods import CLAIMS, METHODS, Method

__all__ = ["CLAIMS", "METHODS", "Method", "Truncation", "compress", "truncate"]
