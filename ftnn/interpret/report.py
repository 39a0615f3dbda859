"""A table of a network: dimensions, bonds, parameters, truncation and entanglement by layer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..chains.entanglement import (
    bond_spectra,
    mutual_information,
    operator_cores,
    spectral_entropies,
)
from ..chains.terms import Cores
from ..layers.layer import Layer
from ..layers.sequential import Sequential
from .error import truncation_error
from .trace import Step, trace


@dataclass(frozen=True, eq=False)
class LayerRow:
    """One layer of :func:`layer_report`; fields that do not apply are None or empty.

    Attributes
    ----------
    path, type : str
    in_dims, out_dims : tuple of int
        Physical dimensions; of a readout the number of outputs.
    weight_bonds, bonds : tuple of int
        Bond dimensions of the weight, and of the output.
    params : int
    dense_params : int or None
        Entries of the dense matrices (and bias) of the same shape; an exact Python integer.
    truncation_error : float or None
        Root mean square over the batch of :func:`truncation_error`, of the samples that have one.
    entropies, weight_entropies : array (L - 1,)
        Entanglement entropy per bond in nats, of the output (mean over the batch) and of the
        weight.
    spectra, weight_spectra : tuple of array (bond,)
        Normalized singular values per bond, of the output (root mean square over the batch) and
        of the weight.
    """

    path: str
    type: str
    in_dims: tuple[int, ...]
    out_dims: tuple[int, ...]
    weight_bonds: tuple[int, ...]
    bonds: tuple[int, ...]
    params: int
    dense_params: int | None
    truncation_error: float | None
    entropies: np.ndarray
    weight_entropies: np.ndarray
    spectra: tuple[np.ndarray, ...]
    weight_spectra: tuple[np.ndarray, ...]

    @property
    def log10_compression(self) -> float | None:
        """Decimal logarithm of dense parameters over parameters; None without a dense matrix."""
        if self.dense_params is None:
            return None
        return math.log10(self.dense_params) - math.log10(self.params)


def layer_report(model: Layer, cores: Cores) -> tuple[LayerRow, ...]:
    """Describe every layer, as seen by a batch of inputs.

    Parameters
    ----------
    model : Layer
        On any backend; it is not modified.
    cores : tuple of array (batch, left, phys, right)
        A few dozen samples are enough.

    Returns
    -------
    tuple of LayerRow
        The first describes the input; layers that only contain other layers are omitted.
    """
    steps = trace(model, cores)
    rows = [_input_row(steps[0].inputs)]
    for step in steps:
        terms = step.layer.terms(step.inputs)
        if terms or step.layer.params or not step.layer.children:
            error = truncation_error(terms, step.output) if terms else None
            rows.append(_row(step, error))
    return tuple(rows)


@dataclass(frozen=True, eq=False)
class StateRow:
    """Entanglement of the input states, or of the output of one layer, by class.

    Attributes
    ----------
    name : str
        "input", or path and type of the layer.
    entropies : array (classes, L - 1)
        Mean entropy across every bond of the samples of a class, in nats; NaN without samples.
    spectra : tuple of array (classes, bond)
        Normalized singular values per bond, root mean square over the samples of a class.
    mutual_information : array (L, L)
        Between every two sites, in nats, mean over all samples.
    """

    name: str
    entropies: np.ndarray
    spectra: tuple[np.ndarray, ...]
    mutual_information: np.ndarray


def entanglement_report(
    model: Layer, cores: Cores, labels: np.ndarray, num_classes: int
) -> tuple[StateRow, ...]:
    """Follow the entanglement of the states of every class through a network.

    Parameters
    ----------
    model : Layer
        On any backend; it is not modified.
    cores : tuple of array (batch, left, phys, right)
        A few dozen samples of every class are enough.
    labels : int array (batch,)
    num_classes : int

    Returns
    -------
    tuple of StateRow
        The input first; layers that do not change the entropies, such as a norm, are omitted.
    """
    steps = trace(model, cores)
    states = [("input", steps[0].inputs)]
    for step in steps:
        if isinstance(step.output, tuple) and not isinstance(step.layer, Sequential):
            states.append((f"{step.path} {type(step.layer).__name__}".strip(), step.output))
    rows: list[StateRow] = []
    before = np.zeros((0, 0))
    for name, state in states:
        spectra = bond_spectra(state)
        entropies = spectral_entropies(spectra, state)
        if entropies.shape == before.shape and np.allclose(entropies, before, atol=1e-9):
            continue
        before = entropies
        by_class = _class_means(entropies, labels, num_classes)
        squares = (_class_means(s**2, labels, num_classes) for s in spectra)
        information = mutual_information(state).mean(axis=0)
        rows.append(StateRow(name, by_class, tuple(map(np.sqrt, squares)), information))
    return tuple(rows)


def _class_means(values: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Average values (batch, ...) over the samples of every class: (classes, ...)."""
    means = np.full((num_classes, *values.shape[1:]), np.nan)
    for number in range(num_classes):
        if np.any(labels == number):
            means[number] = values[labels == number].mean(axis=0)
    return means


def log10_compression(rows: Sequence[LayerRow]) -> float:
    """Return the decimal logarithm of the compression of a model against dense matrices.

    Layers without a dense matrix count their own parameters on both sides.
    """
    dense = sum(row.params if row.dense_params is None else row.dense_params for row in rows)
    return math.log10(dense) - math.log10(max(1, sum(row.params for row in rows)))


def _row(step: Step, error: np.ndarray | None) -> LayerRow:
    layer = step.layer
    weights = next(iter(layer.operators().values()), ())
    chain = step.output if isinstance(step.output, tuple) else ()
    errors = np.zeros(0) if error is None else error[~np.isnan(error)]
    in_dims = tuple(core.shape[2] for core in step.inputs)
    out_dims = tuple(core.shape[2] for core in chain) or (int(step.output.shape[1]),)
    entropies, spectra = _entanglement(chain)
    weight_entropies, weight_spectra = _entanglement(operator_cores(weights))
    return LayerRow(
        path=step.path,
        type=type(layer).__name__,
        in_dims=in_dims,
        out_dims=out_dims,
        weight_bonds=tuple(w.shape[3] for w in weights[:-1]),
        bonds=tuple(core.shape[3] for core in chain[:-1]),
        params=sum(math.prod(a.shape) for a in layer.params.values()),
        dense_params=layer.dense_params(),
        truncation_error=float(np.sqrt(np.mean(errors**2))) if len(errors) else None,
        entropies=entropies,
        weight_entropies=weight_entropies,
        spectra=spectra,
        weight_spectra=weight_spectra,
    )


def _input_row(cores: Cores) -> LayerRow:
    dims = tuple(core.shape[2] for core in cores)
    entropies, spectra = _entanglement(cores)
    return LayerRow(
        path="input",
        type="MPS",
        in_dims=dims,
        out_dims=dims,
        weight_bonds=(),
        bonds=tuple(core.shape[3] for core in cores[:-1]),
        params=0,
        dense_params=None,
        truncation_error=None,
        entropies=entropies,
        weight_entropies=np.zeros(0),
        spectra=spectra,
        weight_spectra=(),
    )


def _entanglement(chain: Cores) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return the mean entropies and root mean square spectra of a batch."""
    if not chain:
        return np.zeros(0), ()
    spectra = bond_spectra(chain)
    entropies = spectral_entropies(spectra, chain)
    return entropies.mean(axis=0), tuple(np.sqrt(np.mean(s**2, axis=0)) for s in spectra)
