"""CuPy implementations; imported when the first CuPy array is encountered."""

from functools import partial

import cupy
import numpy as np
from autoray import do

from . import backend, functions, random
from .backend import host_array, real_name
from .dispatch import implementation

on_cupy = partial(implementation, "cupy")


@on_cupy(backend.to_numpy)
def _(x):
    return x.get()


@on_cupy(backend._convert)
def _(x, backend, dtype, device):
    x = host_array(x, dtype)
    with cupy.cuda.Device(int((device or "cuda:0").partition(":")[2] or 0)):
        return cupy.asarray(x)


@on_cupy(backend.device_of)
def _(x):
    return f"cuda:{x.device.id}"


@on_cupy(backend.synchronize)
def _(place):
    device, _, number = place.partition("-")[2].partition(":")
    if device == "cuda":
        (cupy.cuda.Device(int(number)) if number else cupy.cuda.Device()).synchronize()


@on_cupy(functions.erf)
def _(x):
    from cupyx.scipy.special import erf

    return erf(x)


@on_cupy(random.random_uniform)
def _(shape, like, rng):
    return do("random.random", shape, dtype=np.dtype(real_name(like)).name, like="cupy")
