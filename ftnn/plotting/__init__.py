"""Figures of runs, networks, trained functions, phases, solutions and evolution."""

from .dynamics import plot_dynamics
from .entanglement import plot_entanglement
from .functions import plot_functions
from .network import network_svg, plot_network
from .phases import Panel, plot_phases
from .runs import plot_bonds, plot_confusion, plot_curves
from .solutions import plot_solutions
from .spectra import plot_spectra

__all__ = [
    "Panel",
    "network_svg",
    "plot_bonds",
    "plot_confusion",
    "plot_curves",
    "plot_dynamics",
    "plot_entanglement",
    "plot_functions",
    "plot_network",
    "plot_phases",
    "plot_solutions",
    "plot_spectra",
]
