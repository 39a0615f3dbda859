"""A stand-in for CuPy on machines without a GPU: NumPy behind CuPy's rules.

Its arrays are of a class of their own in a module called ``cupy``, so that autoray and ftnn take
the code paths of CuPy. As there, an array is not converted to NumPy unless asked for by ``get``,
does not mix with NumPy arrays, and only names that CuPy 14.2 has are there. What it cannot show
is arithmetic and speed on a device.
"""

import contextlib
import importlib.machinery
import sys
import types

import numpy as np
import scipy.special

NAMES = """
    abs absolute add all any arange argmax argmin argsort asarray astype broadcast_to
    concatenate conj conjugate copysign cos cumsum diag diagonal divide einsum empty empty_like
    exp eye flip full full_like imag isfinite isnan log logical_and logical_not logical_or matmul
    max maximum mean min minimum moveaxis multiply nan ndim ones ones_like outer pad prod ravel
    real reshape shape sign sin sort sqrt squeeze stack sum swapaxes take take_along_axis tanh
    tensordot trace transpose tril triu where zeros zeros_like float32 float64 complex64
    complex128 int64 bool_
"""
LINALG = ["cholesky", "eigh", "inv", "norm", "qr", "solve", "svd"]


class Device:
    """``cupy.cuda.Device``: a context that selects a device."""

    def __init__(self, number=0):
        self.id = number

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # the name that CuPy has
    """An array that stays on its device."""

    device = Device()

    def __init__(self, host):
        self._host = host

    def get(self):
        """Copy to the host."""
        return self._host.copy()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        _check(inputs)
        return _device(getattr(ufunc, method)(*_hosted(inputs), **kwargs))

    def __getattr__(self, name):
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        value = getattr(self._host, name)
        return _wrapped(value) if callable(value) else _device(value)

    def __getitem__(self, key):
        return _device(self._host[_hosted(key)])

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return iter(_device(x) for x in self._host)

    def __float__(self):
        return float(self._host)

    def __int__(self):
        return int(self._host)

    def __bool__(self):
        return bool(self._host)


ndarray.__module__ = "cupy"


def _check(values):
    for value in values:
        if isinstance(value, (tuple, list)):
            _check(value)
        elif isinstance(value, np.ndarray):
            raise TypeError("Implicit conversion to a NumPy array is not allowed")


def _hosted(x):
    if isinstance(x, ndarray):
        return x._host
    if type(x) in (tuple, list):
        return type(x)(_hosted(y) for y in x)
    if isinstance(x, dict):
        return {key: _hosted(value) for key, value in x.items()}
    return x


def _device(x):
    if isinstance(x, (np.ndarray, np.generic)):
        return ndarray(np.asarray(x))
    if isinstance(x, tuple) and any(isinstance(y, np.ndarray) for y in x):
        return tuple(_device(y) for y in x)
    return x


def _wrapped(function):
    def call(*args, **kwargs):
        _check(args)
        return _device(function(*_hosted(args), **_hosted(kwargs)))

    return call


def make():
    """Build the module."""
    cupy = types.ModuleType("cupy")
    cupy.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    cupy.linalg = types.ModuleType("cupy.linalg")
    cupy.cuda = types.SimpleNamespace(Device=Device, is_available=lambda: True)
    cupy.ndarray = ndarray
    for name in NAMES.split():
        value = getattr(np, name)
        wrap = callable(value) and not isinstance(value, type)
        setattr(cupy, name, _wrapped(value) if wrap else value)
    cupy.asarray = lambda x: ndarray(np.array(_hosted(x)))
    for name in LINALG:
        setattr(cupy.linalg, name, _wrapped(getattr(np.linalg, name)))
    cupy.random = types.ModuleType("cupy.random")
    rng = np.random.default_rng(0)
    cupy.random.random = lambda size=None, dtype=float: _device(rng.random(size, dtype))
    return cupy


@contextlib.contextmanager
def installed():
    """Make ``import cupy`` give the stand-in."""
    cupy = make()
    special = types.ModuleType("cupyx.scipy.special")
    special.erf = _wrapped(scipy.special.erf)
    names = {
        "cupy": cupy,
        "cupy.linalg": cupy.linalg,
        "cupy.random": cupy.random,
        special.__name__: special,
    }
    for name in ("cupyx", "cupyx.scipy"):
        names[name] = types.ModuleType(name)
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield cupy
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
