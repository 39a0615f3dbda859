"""JAX implementations; imported when the first JAX array is encountered.

JAX's cotangents of complex numbers are the conjugates of torch's gradients.
"""

from functools import partial

import jax
import jax.numpy as jnp

from . import backend, functions
from .backend import host_array
from .dispatch import implementation
from .gradients import differentiable

on_jax = partial(implementation, "jax")


@on_jax(differentiable)
def _(rule, backend):
    @jax.custom_vjp
    def function(*inputs):
        return rule.without_gradient(*inputs)

    def forward(*inputs):
        output = rule.forward(*inputs)
        return rule.visible(output), inputs if rule.save == "inputs" else output

    def backward(saved, grad):
        grad = grad if rule.outputs == 1 else grad[0]
        back = rule.vjp(jnp.conj(grad), (True,) * rule.inputs, *saved)
        return tuple(None if g is None else jnp.conj(g) for g in back)

    function.defvjp(forward, backward)
    return function


@on_jax(backend._convert)
def _(x, backend, dtype, device):
    return jax.device_put(host_array(x, dtype), jax.devices(device)[0] if device else None)


@on_jax(backend.widest)
def _(x):
    return x  # JAX has no double precision unless it is enabled


@on_jax(functions.stop_gradient)
def _(x):
    return jax.lax.stop_gradient(x)


@on_jax(functions.erf)
def _(x):
    return jax.scipy.special.erf(x)
