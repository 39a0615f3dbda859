"""Figures: learning curves, confusion matrix, bonds by layer, and the network as a diagram."""

from .network import plot_network
from .runs import plot_bonds, plot_confusion, plot_curves

__all__ = ["plot_bonds", "plot_confusion", "plot_curves", "plot_network"]
