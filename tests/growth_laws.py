"""What the tests of growth share: drawn networks, and what every operation must keep."""

import copy

import numpy as np
from hypothesis import strategies as st
from laws import Chain

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.nonlinear import KAN, Gated, LayerNorm, Pointwise, RMSNorm

ENOUGH = 64
"""A bond that truncates nothing of what is drawn here."""

TOLERANCE = {"float64": 1e-9, "complex128": 1e-9, "float32": 1e-4, "complex64": 1e-4}


def middle(kind, dims, bond, max_bond, seed):
    """One layer between others, from states to states of the same dimensions."""
    match kind:
        case "linear":
            return ftnn.Linear(dims, dims, bond, max_bond, seed=seed, bias_bond=1 + seed % 2)
        case "gated":
            return Gated(dims, dims, bond, max_bond, offset=seed % 3 > 0, seed=seed)
        case "residual":
            inner = ftnn.Sequential(ftnn.Linear(dims, dims, bond, max_bond, seed=seed), RMSNorm())
            return ftnn.Residual(inner, max_bond, seed=seed)
        case "shortcut":
            own = [ftnn.Linear(dims, dims, bond, max_bond, seed=seed + n) for n in (0, 1)]
            return ftnn.Residual(own[0], max_bond, seed=seed, shortcut=own[1])
        case "kan":
            basis = ("chebyshev", "radial", "spline")[seed % 3]
            return KAN(dims, basis=basis, grid=2, seed=seed)
        case "pointwise":
            return Pointwise("tanh", residual=seed % 2 == 0)
        case "rms":
            return RMSNorm(0.1 * (seed % 2), dims if seed % 3 else None)
        case "layer-norm":
            return LayerNorm(dims, max_bond, bond_dim=1 + seed % 2, eps=0.1, seed=seed)
    raise ValueError(kind)


REAL = ("linear", "gated", "residual", "shortcut", "kan", "pointwise", "rms", "layer-norm")
COMPLEX = ("linear", "gated", "residual", "shortcut", "rms")


def moved(model, seed, dtype="float64"):
    """Move every parameter, as training does: zeros and ones hide mistakes."""
    rng = np.random.default_rng(seed)
    for _, layer in model.walk():
        for name, array in layer.params.items():
            size = np.sqrt(np.mean(array**2)) or 1.0
            noise = 0.2 * size * rng.standard_normal(array.shape)
            if "complex" in dtype:
                noise = noise + 0.2j * size * rng.standard_normal(array.shape)
            layer.params[name] = array + noise
    return model.to("numpy", dtype)


def make_network(kinds, dims, bond, max_bond, seed, head="readout", dtype="float64"):
    """A first layer, the ones between and a head, with moved parameters."""
    wide = tuple(d + 1 for d in dims)
    layers = [ftnn.Linear(dims, wide, bond, max_bond, seed=seed)]
    layers += [middle(kind, wide, bond, max_bond, seed + n) for n, kind in enumerate(kinds)]
    if head == "readout":
        layers.append(ftnn.Readout(wide, 3, bond + 1, seed=seed, bias=seed % 2 == 0))
    elif head == "expectation":
        layers.append(ftnn.Expectation(wide, 2, bond + 1, seed=seed))
    return moved(ftnn.Sequential(*layers), seed, dtype)


@st.composite
def networks(draw, kinds=REAL, heads=("readout", "expectation", None), sites=(2, 4), lossy=True):
    """Draw a network and an input of it."""
    dims = tuple(draw(st.lists(st.integers(2, 3), min_size=sites[0], max_size=sites[1])))
    seed = draw(st.integers(0, 999))
    max_bond = draw(st.sampled_from([ENOUGH, 3, 4])) if lossy else ENOUGH
    model = make_network(
        draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2)),
        dims,
        draw(st.integers(1, 3)),
        max_bond,
        seed,
        draw(st.sampled_from(heads)),
    )
    bonds = tuple(draw(st.integers(1, 3)) for _ in dims[1:])
    return model, Chain(3, dims, bonds, "generic", seed)


def arrays_of(model):
    """Copies of all arrays, on NumPy."""
    return {name: to_numpy(array).copy() for name, array in model.named_arrays().items()}


def assert_unchanged(model, before):
    """The arrays are what they were."""
    assert model.named_arrays().keys() == before.keys()
    for name, array in model.named_arrays().items():
        np.testing.assert_array_equal(to_numpy(array), before[name])


def assert_apart(first, second):
    """No array of one is in the memory of the other, and no layer is in both."""
    for a in first.named_arrays().values():
        for b in second.named_arrays().values():
            assert not np.shares_memory(to_numpy(a), to_numpy(b))
    kept = {id(layer) for _, layer in first.walk()}
    assert not any(id(layer) in kept for _, layer in second.walk())


def assert_same_function(new, old, chain, dtype="float64", expected=None, given=None):
    """Outputs are equal to the tolerance of the dtype, relative to the largest of the batch."""
    x = chain.mps(dtype)
    y = old(x) if expected is None else expected
    assert_close(new(x if given is None else given), y, dtype)


def assert_close(actual, expected, dtype="float64"):
    """Relative distance in the Euclidean norm, of states or of dense outputs."""
    actual, expected = (
        to_numpy(y.to_dense() if isinstance(y, ftnn.MPS) else y) for y in (actual, expected)
    )
    assert actual.shape == expected.shape
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert error <= TOLERANCE[dtype], f"{error:.1e}"


def gradients(model, chain, dtype="float64"):
    """Gradients of a sum of squares of the outputs minus targets, by name, on NumPy."""
    import torch

    from ftnn.training import TorchModule

    module = TorchModule(copy.deepcopy(model), dtype)
    y = module(chain.mps(dtype, "torch"))
    y = y.to_dense() if isinstance(y, ftnn.MPS) else y
    target = torch.as_tensor(np.random.default_rng(0).standard_normal(tuple(y.shape)))
    ((y - target.to(y.dtype)).abs() ** 2).sum().backward()
    return {
        name.replace(":", "."): None if p.grad is None else p.grad.numpy()
        for name, p in module.named_parameters()
    }
