"""The laws that every layer obeys, each a function of a drawn case; see tests/catalogue.py.

tests/test_laws.py checks them on a few cases, tests/fuzz on very many.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from catalogue import Case
from laws import (
    GAUGES,
    OTHERS,
    PLACES,
    assert_same,
    cancellation,
    insert_gauges,
    mps,
    pad_bonds,
    unit_vectors,
)

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.layers.readouts import Head
from ftnn.training import TorchModule


def output(layer, cores, backend="numpy"):
    """What a layer returns for arrays on NumPy, as unit vectors with log scales."""
    found = layer(mps(cores, backend))
    if isinstance(found, ftnn.MPS):
        assert all(np.isfinite(to_numpy(core)).all() for core in found.cores)
    return unit_vectors(found)


def batched(case: Case, backend: str = "numpy", dtype: str = "float64") -> None:
    """Law 1: the result for a batch is that for each sample."""
    layer, cores = case.placed(backend, dtype), case.cores(dtype)
    together = output(layer, cores, backend)
    for n in range(case.chain.batch):
        alone = output(layer, [core[n : n + 1] for core in cores], backend)
        assert_same(tuple(x[n : n + 1] for x in together), alone, PLACES, dtype)


def gauge(case: Case, backend: str = "numpy", dtype: str = "float64") -> None:
    """Law 2: X and its inverse on every bond change nothing."""
    layer, cores = case.placed(backend, dtype), case.cores(dtype)
    plain = output(layer, cores, backend)
    other = insert_gauges(cores, case.chain.seed)
    size = cancellation(cores)
    assert_same(output(layer, other, backend), plain, GAUGES, dtype, size=size)


def padding(case: Case, backend: str = "numpy", dtype: str = "float64") -> None:
    """Law 3: zero-padded bonds change nothing."""
    layer, cores = case.placed(backend, dtype), case.cores(dtype)
    plain = output(layer, cores, backend)
    assert_same(output(layer, pad_bonds(cores), backend), plain, PLACES, dtype)


def backends(case: Case, dtype: str = "float64", others: tuple[str, ...] = tuple(OTHERS)) -> None:
    """Law 6: every backend gives the result of NumPy."""
    cores = case.cores(dtype)
    expected = output(case.placed("numpy", dtype), cores)
    for backend in others:
        assert_same(output(case.placed(backend, dtype), cores, backend), expected, PLACES, dtype)


def gradients(
    case: Case, dtype: str = "float64", pad: bool = False, exponents: tuple[int, ...] = ()
) -> None:
    """Law 7: outputs and gradients are finite, for every finite input."""
    module = TorchModule(case.placed(), dtype)
    arrays = case.cores(dtype) if case.reach else case.cores()
    arrays = pad_bonds(arrays) if pad else arrays
    factors = [10.0**e for e in exponents] or [1.0] * len(arrays)
    arrays = [(f * core).astype(dtype) for f, core in zip(factors, arrays, strict=True)]
    cores = [torch.from_numpy(core).requires_grad_() for core in arrays]
    parts = module.apply_cores(tuple(cores))
    parts = parts if isinstance(parts, tuple) else (parts,)
    assert all(bool(torch.isfinite(part).all()) for part in parts)
    weights = (torch.linspace(-1, 1, part.numel(), dtype=part.dtype) for part in parts)
    loss = sum((part.flatten() * w).sum() for part, w in zip(parts, weights, strict=True))
    if not loss.requires_grad:
        return  # a layer that ignores its input: no case of the catalogue
    loss.backward()
    for tensor in (*cores, *module.parameters()):
        assert tensor.grad is None or bool(torch.isfinite(tensor.grad).all())


def scales(
    case: Case, exponents: tuple[int, ...], backend: str = "numpy", dtype: str = "float64"
) -> None:
    """Law 9: a factor of ten to this on every core comes out as a power of their product."""
    entry = case.entry
    if entry.degree is None or (entry.degree and issubclass(entry.cls, Head)):
        exponents = balanced(exponents)  # of the vector itself, which is to stay as it is
    degree = entry.degree or 0
    layer, cores = case.placed(backend, dtype), case.cores()
    log10 = degree * sum(exponents) / len(layer.out_dims or exponents)
    if abs(log10) > (25 if dtype == "float32" else 250):
        return  # the cores of the result cannot be represented
    scaled = [(10.0**e * core).astype(dtype) for e, core in zip(exponents, cores, strict=True)]
    plain = output(layer, [core.astype(dtype) for core in cores], backend)
    shift = degree * sum(exponents) * np.log(10.0)
    assert_same(output(layer, scaled, backend), plain, PLACES, dtype, shift)


def balanced(exponents: tuple[int, ...], limit: int = 30) -> tuple[int, ...]:
    """Exponents whose sum is zero."""
    rest, out = 0, []
    for n, e in enumerate(exponents):
        left = len(exponents) - n - 1
        out.append(int(np.clip(e, -limit * left - rest, limit * left - rest)) if left else -rest)
        rest += out[-1]
    return tuple(out)


def finite_differences(case: Case) -> None:
    """Law 7: gradients equal finite differences, unless their steps are rounding."""
    if cancellation(case.cores()) > 300:  # of 1e-6, and a norm loses the square of it
        return
    module = TorchModule(case.placed(), "float64").eval()
    cores = [torch.from_numpy(core).requires_grad_() for core in case.cores()]
    names = [name for name, _ in module.named_parameters()]

    def vector(*arrays):
        params = dict(zip(names, arrays[len(cores) :], strict=True))
        out = torch.func.functional_call(module, params, (ftnn.MPS(arrays[: len(cores)]),))
        if not isinstance(out, ftnn.MPS):
            return out
        env = out.cores[0][:, 0]  # (batch, phys, right)
        for core in out.cores[1:]:
            env = torch.einsum("bxl,blpr->bxpr", env.flatten(1, -2), core)
        return env.flatten(1)

    assert torch.autograd.gradcheck(
        vector, (*cores, *module.parameters()), atol=1e-5, rtol=1e-3, fast_mode=True
    )


def repeatable(case: Case, backend: str = "numpy", dtype: str = "float64") -> None:
    """Law 9: the same seed, the same arrays and the same result."""
    layers = [case.placed(backend, dtype) for _ in range(2)]
    first, second = (output(layer, case.cores(dtype), backend) for layer in layers)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def saved(case: Case, dtype: str = "float64") -> None:
    """A layer that is saved and loaded is the same layer."""
    layer = case.placed("numpy", dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.safetensors"
        ftnn.save(layer, path)
        again = ftnn.load(path)
    assert again.config() == layer.config()
    assert again.named_arrays().keys() == layer.named_arrays().keys()
    for a, b in zip(
        output(again, case.cores(dtype)), output(layer, case.cores(dtype)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def rebuilt(case: Case) -> None:
    """The configuration of a layer makes a layer of the same arrays, drawn alike."""
    for _, part in case.layer.walk():
        kind = type(part)
        layers = [kind(*part.children.values(), **part.config()) for _ in range(2)]
        arrays = [layer.named_arrays() for layer in layers]
        assert arrays[0].keys() == arrays[1].keys() == part.named_arrays().keys()
        for name, array in arrays[0].items():
            assert array.shape == part.named_arrays()[name].shape
            np.testing.assert_array_equal(array, arrays[1][name])


def described(case: Case) -> None:
    """``repr`` and ``str`` say what a layer is, and change nothing."""
    text = repr(case.layer)
    assert type(case.layer).__name__ in text
    assert " object at 0x" not in text
    for _, part in case.layer.walk():
        assert type(part).__name__ in text
    str(case.layer)
