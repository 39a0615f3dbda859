"""Traces of networks: truncation errors, entanglement between sites, FLOPs.

Everything is computed on a copy of the model in double precision on NumPy, regardless of its
backend; nothing here is used in training.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.backend import check_backend, convert
from ..chains.entanglement import (
    bond_spectra,
    double,
    entanglement_entropies,
    mutual_information,
    operator_cores,
)
from ..chains.terms import Cores
from ..layers.hooks import intercepted
from ..layers.layer import Layer
from ..layers.surgery import duplicate
from .error import truncation_error

__all__ = [
    "Step",
    "bond_spectra",
    "entanglement_entropies",
    "flops_per_sample",
    "mutual_information",
    "operator_cores",
    "trace",
    "truncation_error",
    "truncation_errors",
]


@dataclass(frozen=True, eq=False)
class Step:
    """One layer of a traced forward pass.

    Attributes
    ----------
    path : str
        Dotted path of the layer, ``"3"`` or ``"2.layer"``; empty for the model itself.
    layer : Layer
        In double precision, on NumPy.
    inputs, output : tuple of array (batch, left, phys, right)
        Cores; the output of a readout is one array (batch, num_outputs).
    """

    path: str
    layer: Layer
    inputs: Cores
    output: Any


def trace(model: Layer, cores: Cores) -> list[Step]:
    """Run a model and record the input and output of every layer.

    Parameters
    ----------
    model : Layer
        On any backend; it is not modified.
    cores : tuple of array (batch, left, phys, right)
        On any backend.

    Returns
    -------
    list of Step
        In the order in which the layers finish.
    """
    model = duplicate(model, double)
    steps: list[Step] = []

    def record(path: str, layer: Layer, inputs: Cores) -> Any:
        output = type(layer).apply(layer, inputs)
        steps.append(Step(path, layer, inputs, output))
        return output

    with intercepted(model, record):
        model.apply(tuple(double(core) for core in cores))
    return steps


def truncation_errors(model: Layer, cores: Cores) -> dict[str, np.ndarray]:
    """Compute the relative truncation error of every layer that truncates, sample by sample.

    Parameters
    ----------
    model : Layer
    cores : tuple of array (batch, left, phys, right)
        A batch of inputs; a few dozen samples are enough.

    Returns
    -------
    dict of str to array (batch,)
        :func:`truncation_error` by path of the layer, against its :meth:`ftnn.Layer.terms`.

    Notes
    -----
    The exact output is that of the layer alone, given its actual input: a :class:`ftnn.Residual`
    adds the truncated output of its inner layer. All truncations within a layer count: both factors
    of a :class:`ftnn.nonlinear.Gated`, every step of a :class:`ftnn.nonlinear.Polynomial`. For a
    :class:`ftnn.nonlinear.Elementwise` there is no exact chain; see
    :meth:`ftnn.nonlinear.Elementwise.sampled_error`.
    """
    errors = {}
    for step in trace(model, cores):
        terms = step.layer.terms(step.inputs)
        if terms:
            errors[step.path] = truncation_error(terms, step.output)
    return errors


def flops_per_sample(model: Layer, cores: Cores) -> float:
    """Count the floating point operations of the matrix multiplications of a forward pass.

    Counted by :class:`torch.utils.flop_counter.FlopCounterMode` on a copy of the model, for
    the batch given, and divided by its size: QR factorizations and elementwise functions are
    not counted, and work shared by the batch (sketching the weights) is divided by it.

    Parameters
    ----------
    model : Layer
    cores : tuple of array (batch, left, phys, right)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If torch is not installed.
    """
    check_backend("torch")
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    twin = duplicate(model, double).to("torch")
    batch = tuple(convert(double(core), "torch") for core in cores)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin.apply(batch)
    return counter.get_total_flops() / int(cores[0].shape[0])
