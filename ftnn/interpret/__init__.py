"""Inspection of networks: traces, truncation errors, entanglement, reports by layer."""

from ..chains.entanglement import (
    bond_spectra,
    entanglement_entropies,
    mutual_information,
    operator_cores,
)
from .error import truncation_error
from .report import LayerRow, StateRow, entanglement_report, layer_report
from .trace import Step, flops_per_sample, trace, truncation_errors

__all__ = [
    "LayerRow",
    "StateRow",
    "Step",
    "bond_spectra",
    "entanglement_entropies",
    "entanglement_report",
    "flops_per_sample",
    "layer_report",
    "mutual_information",
    "operator_cores",
    "trace",
    "truncation_error",
    "truncation_errors",
]
