"""What a network does inside: truncation errors, entanglement between its sites, FLOPs.

Everything is computed on a copy of the model in double precision on NumPy, whatever backend
the model lives on; nothing here takes part in training.
"""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays.backend import check_backend, convert
from ..chains.overlap import overlap, squared_norm
from ..chains.terms import Cores, Term
from ..layers.layer import Layer
from .entanglement import (
    bond_spectra,
    double,
    entanglement_entropies,
    mutual_information,
    operator_cores,
)

__all__ = [
    "Step",
    "bond_spectra",
    "entanglement_entropies",
    "flops_per_sample",
    "mutual_information",
    "operator_cores",
    "relative_error",
    "trace",
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
    """Run a model and keep what goes into and comes out of every layer.

    Parameters
    ----------
    model : Layer
        On any backend; it is not changed.
    cores : tuple of array (batch, left, phys, right)
        On any backend.

    Returns
    -------
    list of Step
        In the order in which the layers finish.
    """
    model = _host_copy(model)
    steps: list[Step] = []

    def record(path: str, layer: Layer) -> None:
        def apply(inputs: Cores) -> Any:
            output = type(layer).apply(layer, inputs)
            steps.append(Step(path.rstrip("."), layer, inputs, output))
            return output

        vars(layer)["apply"] = apply  # shadows the method of this copy

    layers = list(model.walk())
    for path, layer in layers:
        record(path, layer)
    model.apply(tuple(double(core) for core in cores))
    for _, layer in layers:
        del vars(layer)["apply"]
    return steps


def truncation_errors(model: Layer, cores: Cores) -> dict[str, np.ndarray]:
    r"""Relative truncation error of every layer that truncates, sample by sample.

    Parameters
    ----------
    model : Layer
    cores : tuple of array (batch, left, phys, right)
        A batch of inputs; a few dozen samples are enough.

    Returns
    -------
    dict of str to array (batch,)
        :math:`\|T - C\| / \|T\|` by path of the layer, T being its exact output.

    Notes
    -----
    Successive randomized compression is an orthogonal projection, so the error needs no
    difference of chains: :math:`\|T - C\|^2 = \|T\|^2 - \|C\|^2` (see
    :mod:`ftnn.truncation.src`). T is contracted exactly, with its full bond. Norms are taken
    in log scale; because of the difference, errors below about 1e-8 come out as noise.
    """
    return {
        step.path: relative_error(step.layer.terms(step.inputs), step.output)
        for step in trace(model, cores)
        if hasattr(step.layer, "terms")
    }


def relative_error(terms: tuple[Term, ...], output: Cores) -> np.ndarray:
    """Relative error of a chain that is an orthogonal projection of a sum of terms.

    Parameters
    ----------
    terms : tuple of Term
        The exact chain, in double precision on NumPy.
    output : tuple of array (batch, left, phys, right)

    Returns
    -------
    array (batch,)
        0 for samples that are zero.
    """
    value, log_scale = squared_norm(terms)
    kept, kept_log_scale = overlap(output, output)
    alive = value > 0
    ratio = np.real(kept) / np.where(alive, value, 1.0) * np.exp(kept_log_scale - log_scale)
    return np.where(alive, np.sqrt(np.clip(1.0 - ratio, 0.0, None)), 0.0)


def flops_per_sample(model: Layer, cores: Cores) -> float:
    """Floating point operations of a forward pass, of matrix multiplications only.

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

    twin = _host_copy(model).to("torch")
    batch = tuple(convert(double(core), "torch") for core in cores)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin.apply(batch)
    return counter.get_total_flops() / int(cores[0].shape[0])


def _host_copy(layer: Layer) -> Layer:
    """Copy of a layer and all inside it, in double precision on NumPy."""
    twin = copy.copy(layer)
    twin.params = {key: double(array) for key, array in layer.params.items()}
    twin.buffers = {key: double(array) for key, array in layer.buffers.items()}
    twin.children = {key: _host_copy(child) for key, child in layer.children.items()}
    return twin
