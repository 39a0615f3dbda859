"""What a network does inside: traces, truncation errors, entanglement, reports by layer."""

from .entanglement import (
    bond_spectra,
    entanglement_entropies,
    mutual_information,
    operator_cores,
)
from .report import LayerRow, StateRow, entanglement_report, layer_report
from .trace import Step, flops_per_sample, relative_error, trace, truncation_errors

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
    "relative_error",
    "trace",
    "truncation_errors",
]
