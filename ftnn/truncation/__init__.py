"""Truncation of lazy chains."""

from .compress import METHODS, compress

__all__ = ["METHODS", "compress"]
