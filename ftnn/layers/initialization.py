"""Initial weights and test matrices; the notes of :class:`ftnn.Linear` give the reasons."""

from itertools import pairwise

import numpy as np

from ..arrays.random import random_generator
from ..arrays.scales import spread
from ..arrays.sketches import test_matrices
from ..chains.bonds import MaxBond, cut_bonds
from ..chains.operators import weight_bonds
from ..chains.overlap import overlap

Shapes = list[tuple[int, ...]]


def weight_shapes(in_dims: tuple[int, ...], out_dims: tuple[int, ...], bond_dim: MaxBond) -> Shapes:
    """Return the shapes (left, out, in, right) of :func:`initial_weight`."""
    bonds = weight_bonds(out_dims, in_dims, bond_dim)
    return list(zip(bonds[:-1], out_dims, in_dims, bonds[1:], strict=True))


def bias_shapes(out_dims: tuple[int, ...], bond: MaxBond = 1) -> Shapes:
    """Return the shapes (1, left, out, right) of :func:`initial_bias`."""
    bonds = cut_bonds(out_dims, bond)
    return [
        (1, left, out, right) for out, (left, right) in zip(out_dims, pairwise(bonds), strict=True)
    ]


def sketch_shapes(dims: tuple[int, ...], *max_bonds: MaxBond) -> Shapes:
    """Return the shapes (size, dim) of :func:`sketch_of_layer`, for outputs of any of the bonds.

    The size is the largest bond, cut to what the dimensions allow.
    """
    size = max(max(cut_bonds(dims, max_bond)) for max_bond in max_bonds)
    return [(size, dim) for dim in dims[:-1]]


def sketch_of_layer(
    dims: tuple[int, ...], seed: int, *max_bonds: MaxBond
) -> tuple[np.ndarray, ...]:
    """Draw the test matrices (size, dim) of a layer, the first row along the constant channel."""
    size = max(max(cut_bonds(dims, max_bond)) for max_bond in max_bonds)
    return sketch_rows(size, seed, *dims)


def sketch_rows(size: int, seed: int, *dims: int) -> tuple[np.ndarray, ...]:
    """Draw ``size`` rows of :func:`sketch_of_layer`; a smaller size gives the first of them."""
    omegas = tuple(omega.copy() for omega in test_matrices(dims, size, seed))
    for omega in omegas:
        # the first row favours the constant channel, so that its sign does not flip
        omega[0] *= 0.1
        omega[0, 0] = 1.0
    return omegas


def initial_weight(
    in_dims: tuple[int, ...], out_dims: tuple[int, ...], bond_dim: MaxBond, seed: int
) -> tuple[np.ndarray, ...]:
    """Draw MPO cores (left, out, in, right): identity on the bond plus noise, at a given norm."""
    rng = random_generator(seed, 1)
    L = len(in_dims)
    bonds = weight_bonds(out_dims, in_dims, bond_dim)
    noise = min(1.0, 2.0 / L)
    cores = []
    for out, inn, (left, right) in zip(out_dims, in_dims, pairwise(bonds), strict=True):
        core = noise * rng.standard_normal((left, out, inn, right)) / np.sqrt(inn * right)
        bond = np.eye(left, right)
        if left == 1 or right == 1:  # an end of the chain: every bond channel meets the edge
            bond = np.full((left, right), 1.0 / np.sqrt(max(left, right)))
        core += bond[:, None, None, :] * semi_orthogonal(rng, out, inn)[None, :, :, None]
        cores.append(core)
    flat = [core.reshape(1, core.shape[0], -1, core.shape[3]) for core in cores]
    value, log_scale = overlap(tuple(flat), tuple(flat))
    log_norm = 0.5 * (np.log(value) + log_scale)  # of the Frobenius norm
    target = 0.5 * sum(np.log(d) for d in out_dims)
    scaled = spread(flat, target - log_norm)
    return tuple(s.reshape(c.shape) for s, c in zip(scaled, cores, strict=True))


def semi_orthogonal(rng: np.random.Generator, out: int, inn: int) -> np.ndarray:
    """Return a matrix (out, in) with orthonormal rows or columns that preserves channel 0."""
    matrix = np.zeros((out, inn))
    matrix[0, 0] = 1.0
    if out > 1 and inn > 1:
        tall = np.linalg.qr(rng.standard_normal((max(out, inn) - 1, min(out, inn) - 1)))[0]
        matrix[1:, 1:] = tall if out >= inn else tall.T
    elif out > 1:
        matrix[:, 0] = 1.0 / np.sqrt(out)
    return matrix


def initial_bias(out_dims: tuple[int, ...], seed: int, bond: MaxBond = 1) -> tuple[np.ndarray, ...]:
    """Return cores (1, left, out, right) of a trainable zero: only the last is zero."""
    rng = random_generator(seed, 2)
    shapes = bias_shapes(out_dims, bond)
    cores = [rng.standard_normal(shape) / np.sqrt(shape[1]) for shape in shapes]
    cores[-1] = np.zeros_like(cores[-1])
    return tuple(cores)
