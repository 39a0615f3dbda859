"""Figures: learning curves, confusion, bonds, entanglement, the network, trained functions."""

from .entanglement import plot_entanglement
from .functions import plot_functions
from .network import plot_network
from .runs import plot_bonds, plot_confusion, plot_curves

__all__ = [
    "plot_bonds",
    "plot_confusion",
    "plot_curves",
    "plot_entanglement",
    "plot_functions",
    "plot_network",
]
