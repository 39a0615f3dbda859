"""The code paths of CuPy, on a stand-in that keeps its rules where there is no GPU."""

import importlib.util

import cupy_standin
import numpy as np
import pytest
from laws import Chain, assert_close, dense, random_operator

import ftnn
from ftnn.arrays.backend import convert, to_numpy
from ftnn.truncation import METHODS, truncate

REAL = importlib.util.find_spec("cupy") is not None
DTYPES = ("float32", "float64", "complex64", "complex128")


@pytest.fixture(autouse=True)
def cupy():
    if REAL:  # tests/laws.py compares the real one wherever a GPU is
        pytest.skip("CuPy is installed")
    with cupy_standin.installed() as module:
        yield module


def on_cupy(cores):
    return [convert(core, "cupy") for core in cores]


def test_the_stand_in_refuses_what_cupy_refuses(cupy):
    x = cupy.asarray(np.ones(3))
    with pytest.raises(TypeError, match="Implicit conversion"):
        x + np.ones(3)
    with pytest.raises(TypeError, match="Implicit conversion"):
        cupy.stack([x, np.ones(3)])
    assert type((2.0 * x).get()) is np.ndarray


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rtol", [0.0, 0.2])
def test_law_6_methods_agree_with_numpy(method, dtype, rtol):
    chain = Chain(3, (2, 3, 4, 2), (2, 5, 2), "deficient", 1)
    w = random_operator(chain.dims, chain.dims, 3, 2, dtype)
    cores = chain.cores(dtype)
    found = []
    for place in (list, on_cupy):
        x = ftnn.MPS(place(cores))
        found.append(truncate(ftnn.MPO(place(w)) @ x + 0.5 * x, 4, method, rtol))
    first, second = found
    assert type(second.mps.cores[0]).__module__ == "cupy"
    size = np.linalg.norm(dense(first.mps))
    assert_close(dense(second.mps), dense(first.mps), dtype, 1e6, size)
    assert_close(second.error, first.error, dtype, 1e6, 1.0)


@pytest.mark.parametrize("head", [ftnn.Readout, ftnn.Expectation])
def test_a_model_gives_the_same_logits(cupy, head):
    dims = (4,) * 5
    model = ftnn.Sequential(
        ftnn.Linear(dims, dims, 3, 4),
        ftnn.nonlinear.KAN(dims),
        ftnn.nonlinear.RMSNorm(),
        ftnn.Residual(ftnn.Linear(dims, dims, 2, 4, bias=False), 5),
        head(dims, 3, 4),
    )
    x = Chain(6, dims, (3,) * 4, "generic", 0).cores()
    expected = model(ftnn.MPS(x))
    there = model.to("cupy")(ftnn.MPS(on_cupy(x)))
    assert isinstance(there, cupy.ndarray)
    assert_close(to_numpy(there), expected, condition=1e5)


def test_conversions_norms_and_products():
    x = Chain(3, (2, 3, 2), (2, 3), "generic", 0).cores()
    here, there = ftnn.MPS(x), ftnn.MPS(on_cupy(x))
    assert_close(there.to_dense(), here.to_dense())
    assert_close(there.norm(), here.norm())
    assert_close(there.inner(there), here.inner(here))
    vectors = convert(here.to_dense(), "cupy")
    assert_close(ftnn.MPS.from_dense(vectors, (2, 3, 2)).to_dense(), here.to_dense(), condition=1e4)
