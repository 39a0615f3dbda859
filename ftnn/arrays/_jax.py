"""Gradient rules for JAX; imported only once a JAX array is met.

JAX's cotangents of complex numbers are the conjugates of torch's gradients.
"""

import jax
import jax.numpy as jnp

from .linalg import lq_positive, orthonormal_rows, orthonormalize_vjp
from .svd import hermitian_vectors_vjp, left_singular_vjp


@jax.custom_vjp
def _orthonormalize(y, magnitude):
    return orthonormal_rows(y, magnitude)[0]


def _orthonormalize_forward(y, magnitude):
    factors = lq_positive(y, magnitude)
    return factors[0], (factors, magnitude)


def _orthonormalize_backward(saved, grad):
    factors, magnitude = saved
    none = None if magnitude is None else jnp.zeros_like(magnitude)
    return jnp.conj(orthonormalize_vjp(jnp.conj(grad), *factors)), none


_orthonormalize.defvjp(_orthonormalize_forward, _orthonormalize_backward)


def orthonormalize_jax(y, magnitude):
    """JAX version of :func:`ftnn.arrays.linalg.orthonormalize`, with its gradient."""
    return _orthonormalize(y, magnitude)


@jax.custom_vjp
def _left_singular(y):
    return jnp.linalg.svd(y, full_matrices=False)[:2]


def _left_singular_forward(y):
    factors = jnp.linalg.svd(y, full_matrices=False)
    return factors[:2], tuple(factors)


def _left_singular_backward(factors, grads):
    return (jnp.conj(left_singular_vjp(jnp.conj(grads[0]), *factors)),)


_left_singular.defvjp(_left_singular_forward, _left_singular_backward)


def left_singular_jax(y):
    """JAX version of :func:`ftnn.arrays.svd.left_singular`, with its gradient."""
    u, s = _left_singular(y)
    return u, jax.lax.stop_gradient(s)


@jax.custom_vjp
def _hermitian_vectors(h):
    values, u = jnp.linalg.eigh(h)
    return u[..., ::-1], values[..., ::-1]


def _hermitian_vectors_forward(h):
    u, values = _hermitian_vectors(h)
    return (u, values), (values, u)


def _hermitian_vectors_backward(factors, grads):
    return (jnp.conj(hermitian_vectors_vjp(jnp.conj(grads[0]), *factors)),)


_hermitian_vectors.defvjp(_hermitian_vectors_forward, _hermitian_vectors_backward)


def hermitian_vectors_jax(h):
    """JAX version of :func:`ftnn.arrays.svd.hermitian_vectors`, with its gradient."""
    u, values = _hermitian_vectors(h)
    return u, jax.lax.stop_gradient(values)
