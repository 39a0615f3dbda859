"""Gradient rules, written once for every backend that differentiates."""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from .backend import Array
from .dispatch import dispatch, dispatched


@dataclass(frozen=True, eq=False)
class Rule:
    """A function and its gradient; see :func:`custom_vjp`."""

    forward: Callable[..., Any]
    vjp: Callable[..., tuple[Array | None, ...]]
    save: str
    outputs: int
    plain: Callable[..., Any] | None

    @property
    def inputs(self) -> int:
        """Number of arguments."""
        return len(signature(self.forward).parameters)

    def without_gradient(self, *inputs: Array) -> Any:
        """Return the caller's result where no gradient is recorded."""
        return self.plain(*inputs) if self.plain else self.visible(self.forward(*inputs))

    def visible(self, output: Any) -> Any:
        """Return the part of an output of ``forward`` that the caller sees."""
        if self.save == "inputs":
            return output
        return output[0] if self.outputs == 1 else tuple(output[: self.outputs])


def custom_vjp(
    forward: Callable[..., Any],
    vjp: Callable[..., tuple[Array | None, ...]],
    *,
    save: str = "inputs",
    outputs: int = 1,
    plain: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    r"""Make a differentiable function, on torch and JAX, from its forward pass and its gradient.

    Parameters
    ----------
    forward : callable
        ``forward(*inputs)``, an array, if the inputs are saved; a tuple of arrays, if the outputs
        are. A gradient passes through the first array only; the others are constants.
    vjp : callable
        ``vjp(grad, needed, *saved)``: the gradient of every input, or None, from the upstream
        gradient of the first output. ``needed`` flags the inputs whose gradients are used.
        Complex gradients follow torch's convention, :math:`\partial f/\partial\Re x + i\,\partial
        f/\partial\Im x`; JAX's are the conjugates.
    save : {"inputs", "outputs"}
        Arrays passed to the backward pass.
    outputs : int
        Number of arrays of a tuple that the caller sees.
    plain : callable, optional
        Computes the caller's result from the inputs where no gradient is recorded; by default
        ``forward``.

    Returns
    -------
    callable
        On NumPy and CuPy there are no gradients.

    Examples
    --------
    >>> import torch
    >>> square = custom_vjp(lambda x: x * x, lambda grad, needed, x: (2 * x * grad,))
    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> square(x).backward()
    >>> x.grad
    tensor(6.)
    """
    if save not in ("inputs", "outputs"):
        raise ValueError(f"save is {save!r}; choose inputs or outputs")
    rule = Rule(forward, vjp, save, outputs, plain)
    return dispatch(forward, lambda backend: differentiable(rule, backend))


@dispatched(key=lambda rule, backend: backend)
def differentiable(rule: Rule, backend: str) -> Callable[..., Any]:
    """Make the function of a rule for a backend; the plain one where nothing is differentiated."""
    return rule.without_gradient
