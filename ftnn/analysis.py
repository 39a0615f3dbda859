"""What a network does inside: truncation errors, bond spectra, entanglement, parameters, FLOPs.

Everything is computed on a copy of the model in double precision on NumPy, whatever backend
the model lives on; nothing here takes part in training.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from autoray import get_dtype_name
from scipy.special import xlogy

from .backend import Array, check_backend, convert, to_numpy
from .chain import Cores, Term, extend_overlap
from .layer import Layer
from .states import overlap


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
    model.apply(tuple(_double(core) for core in cores))
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
    value, log_scale = _squared_norm(terms)
    kept, kept_log_scale = overlap(output, output)
    alive = value > 0
    ratio = np.real(kept) / np.where(alive, value, 1.0) * np.exp(kept_log_scale - log_scale)
    return np.where(alive, np.sqrt(np.clip(1.0 - ratio, 0.0, None)), 0.0)


def _squared_norm(terms: tuple[Term, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Squared norms (batch,) of a sum of terms as ``value * exp(log_scale)``, exactly.

    Pairs of terms are contracted tensor by tensor, with both bonds of an operator and of its
    state open: for bonds D and chi that takes a fraction of the work and of the memory of the
    merged chain, whose bond is their product.
    """
    batch = max(term.batch_size for term in terms)
    parts = []
    for n, ket in enumerate(terms):
        for m, bra in enumerate(terms[: n + 1]):
            value, log_scale = _overlap_of_terms(bra, ket, batch)
            value = np.real(value * np.conj(bra.scale) * ket.scale)
            parts.append((value if m == n else 2.0 * value, log_scale))
    peak = np.max([log_scale for _, log_scale in parts], axis=0)
    return sum(value * np.exp(log_scale - peak) for value, log_scale in parts), peak


def _overlap_of_terms(bra: Term, ket: Term, batch: int) -> tuple[np.ndarray, np.ndarray]:
    env = np.ones((batch, 1, 1))
    log_scale = np.zeros(batch)
    for k in range(ket.L):
        env = extend_overlap(bra, ket, env, k)
        norm = np.sqrt(np.sum(np.abs(env) ** 2, axis=(1, 2)))
        norm = np.where(norm > 0, norm, 1.0)
        env = env / norm[:, None, None]
        log_scale += np.log(norm)
    return env.reshape(batch), log_scale


def bond_spectra(cores: Cores) -> list[np.ndarray]:
    """Compute the normalized singular values across every bond.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
        On any backend.

    Returns
    -------
    list of array (batch, bond)
        One a bond, descending; the squares of a row sum to 1, to 0 for a zero vector.
    """
    chain = [_double(core) for core in cores]
    bonds = [core.shape[3] for core in chain[:-1]]
    # right to left: orthogonalize; left to right: the SVD of a core is that of the vector
    for k in range(len(chain) - 1, 0, -1):
        batch, left, phys, right = chain[k].shape
        flat = chain[k].reshape(batch, left, phys * right)
        q, r = np.linalg.qr(np.swapaxes(flat, 1, 2))  # (batch, phys*right, n), (batch, n, left)
        chain[k] = np.swapaxes(q, 1, 2).reshape(batch, -1, phys, right)
        carried = np.swapaxes(_unit(r), 1, 2)  # (batch, left, n)
        chain[k - 1] = chain[k - 1] @ carried[:, None]
    spectra = []
    for k, bond in enumerate(bonds):
        batch, left, phys, right = chain[k].shape
        _, s, vh = np.linalg.svd(chain[k].reshape(batch, left * phys, right), full_matrices=False)
        norm = np.linalg.norm(s, axis=1, keepdims=True)
        s = s / np.where(norm > 0, norm, 1.0)
        spectra.append(np.pad(s, ((0, 0), (0, bond - s.shape[1]))))
        after = chain[k + 1]
        carried = (s[:, :, None] * vh) @ after.reshape(batch, right, -1)
        chain[k + 1] = carried.reshape(batch, -1, *after.shape[2:])
    return spectra


def entanglement_entropies(cores: Cores) -> np.ndarray:
    r"""Von Neumann entropy :math:`-\sum_i p_i \log p_i` across every bond, in nats.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
        On any backend. For an operator use :func:`operator_cores`.

    Returns
    -------
    array (batch, L - 1)
        0 for a product state, at most the logarithm of the bond dimension.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> bell = ftnn.MPS.from_dense(np.array([[1.0, 0.0, 0.0, 1.0]]), (2, 2))
    >>> bool(np.isclose(entanglement_entropies(bell.cores)[0, 0], np.log(2)))
    True
    """
    return spectral_entropies(bond_spectra(cores), int(cores[0].shape[0]))


def spectral_entropies(spectra: list[np.ndarray], batch: int) -> np.ndarray:
    """Entropies (batch, L - 1) of the spectra that :func:`bond_spectra` returns."""
    if not spectra:
        return np.zeros((batch, 0))
    squares = [s**2 for s in spectra]
    return np.stack([-np.sum(xlogy(p, p), axis=1) + 0.0 for p in squares], axis=1)


def operator_cores(weights: Sequence[Array]) -> tuple[np.ndarray, ...]:
    """MPO cores ``(left, out, in, right)`` as a batch of one MPS with fused ``out * in``."""
    return tuple(
        _double(w).reshape(1, w.shape[0], w.shape[1] * w.shape[2], w.shape[3]) for w in weights
    )


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
    batch = tuple(convert(_double(core), "torch") for core in cores)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin.apply(batch)
    return counter.get_total_flops() / int(cores[0].shape[0])


def _host_copy(layer: Layer) -> Layer:
    """Copy of a layer and all inside it, in double precision on NumPy."""
    twin = copy.copy(layer)
    twin.params = {key: _double(array) for key, array in layer.params.items()}
    twin.buffers = {key: _double(array) for key, array in layer.buffers.items()}
    twin.children = {key: _host_copy(child) for key, child in layer.children.items()}
    return twin


def _double(x: Array) -> np.ndarray:
    return to_numpy(x).astype("complex128" if "complex" in get_dtype_name(x) else "float64")


def _unit(matrix: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(matrix, axis=(1, 2), keepdims=True)
    return matrix / np.where(norm > 0, norm, 1.0)
