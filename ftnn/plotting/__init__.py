"""Figures: learning curves, confusion matrix, bonds by layer, the network, trained functions."""

from .functions import plot_functions
from .network import plot_network
from .runs import plot_bonds, plot_confusion, plot_curves

__all__ = ["plot_bonds", "plot_confusion", "plot_curves", "plot_functions", "plot_network"]
