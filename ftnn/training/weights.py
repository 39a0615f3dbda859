"""Arrays of a module by dotted path: listing, comparison, copies; and the kept weights."""

from dataclasses import dataclass

import torch

from .module import TorchModule


def arrays_of(module: TorchModule) -> dict[str, torch.Tensor]:
    """Return parameters and buffers of a module by dotted path, without gradients."""
    arrays = parameters_of(module) | dict(module.named_buffers())
    return {name.replace(":", "."): array.detach() for name, array in arrays.items()}


def parameters_of(module: TorchModule) -> dict[str, torch.Tensor]:
    """Return the parameters of a module by dotted path."""
    return {name.replace(":", "."): param for name, param in module.named_parameters()}


def check_arrays(module: TorchModule, arrays: dict[str, torch.Tensor]) -> None:
    """Raise ``ValueError`` unless names, shapes and dtypes are those of the module."""
    own = arrays_of(module)
    for name in sorted(own.keys() ^ arrays.keys()):
        it, model = ("lacks", "has") if name in own else ("has", "lacks")
        raise ValueError(f"it {it} an array {name!r} that this model {model}")
    for name, array in own.items():
        new = arrays[name]
        if tuple(new.shape) != tuple(array.shape) or new.dtype != array.dtype:
            raise ValueError(
                f"its array {name!r} is {tuple(new.shape)} {new.dtype}, but that of this model "
                f"{tuple(array.shape)} {array.dtype}"
            )


def set_arrays(module: TorchModule, arrays: dict[str, torch.Tensor]) -> None:
    """Copy arrays by dotted path into the tensors of a module, in place."""
    with torch.no_grad():
        for name, array in arrays_of(module).items():
            array.copy_(arrays[name])


@dataclass(frozen=True, eq=False)
class Kept:
    """Weights kept by a fit, in host memory, and their module.

    Attributes
    ----------
    module : TorchModule
    arrays : dict of str to tensor
        By dotted path.
    """

    module: TorchModule
    arrays: dict[str, torch.Tensor]

    @classmethod
    def copy(cls, module: TorchModule, evaluated: TorchModule) -> "Kept":
        """Copy the arrays of ``evaluated``, to install in ``module``."""
        arrays = {name: x.to("cpu", copy=True) for name, x in arrays_of(evaluated).items()}
        return cls(module, arrays)

    def install(self) -> TorchModule:
        """Install the arrays in the module, and return it."""
        set_arrays(self.module, self.arrays)
        self.module.bind()
        return self.module
