"""The layers of a model that can be tensorized, and the second moments of their inputs."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from . import formats
from .conv import Conv1d, Conv2d, Conv3d
from .embedding import Embedding
from .linear import Linear, is_transposed, matrix_of
from .module import TensorizedModule
from .moments import Moments
from .rows import BYTES, add_inputs, moments_of

KINDS: dict[type[nn.Module], type[TensorizedModule]] = {
    nn.Linear: Linear,
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.Embedding: Embedding,
}
"""Exact types: a subclass may use its weight in its own way."""

SKIPPED = "skipped"
"""Reason of layers that stay dense as they are asked to."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(eq=False)
class Place:
    """A layer of a model.

    Attributes
    ----------
    names : tuple of str
        Under which the model has it; a layer may be in several places.
    layer : Module
    kind : type
        Its tensorized module.
    reason : str
        Why it stays dense; empty if it need not.
    moments : Moments or None
        Of its inputs; None without calibration.
    norms : tuple of str
        Names of the batch normalization that gets its outputs, and no others, if the layer has no
        bias: what that subtracts makes up for an error of the mean output.
    """

    names: tuple[str, ...]
    layer: nn.Module
    kind: type[TensorizedModule]
    reason: str = ""
    moments: Moments | None = field(default=None, repr=False)
    norms: tuple[str, ...] = ()

    @property
    def weight(self) -> Tensor:
        """The dense weight."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that it can have."""
        if self.kind is Linear:
            return tuple(formats.LINEAR)
        return tuple(formats.EMBEDDING if self.kind is Embedding else formats.CONV)


def find_places(model: nn.Module, skip: Sequence[str] = ()) -> list[Place]:
    """Return the layers of a model that can be tensorized, in its order.

    Parameters
    ----------
    model : Module
    skip : sequence of str
        Names of layers, or of modules with all their layers, that stay dense.

    Raises
    ------
    ValueError
        If a name in ``skip`` is none of the model.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in skip:
        if name not in modules:
            raise ValueError(f"skip has {name!r}, but the model has no module of this name")
    found: dict[int, Place] = {}
    holders: dict[int, set[int]] = {}
    for name, module in modules.items():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), set()).add(id(module))
        kind = Linear if is_transposed(module) else KINDS.get(type(module))
        if kind is None:
            continue
        before = found.get(id(module))
        names = (*(before.names if before else ()), name)
        found[id(module)] = Place(names, module, kind)
    for place in found.values():
        if any(_within(name, skip) for name in place.names):
            place.reason = SKIPPED
        elif "" in place.names:
            place.reason = "the model itself: use from_dense, or put it into a Sequential"
        elif id(place.weight) not in holders:
            place.reason = "weight is computed from others"
        elif len(holders[id(place.weight)]) > 1:
            place.reason = "weight tied to another layer"
        elif not place.weight.is_floating_point():
            place.reason = f"weight of {place.weight.dtype}"
        elif getattr(place.layer, "max_norm", None) is not None:
            place.reason = "norms are clipped"
        elif place.layer._forward_hooks or place.layer._forward_pre_hooks:
            place.reason = "has hooks"
        elif nn.utils.parametrize.is_parametrized(place.layer):
            place.reason = "weight is parametrized"
    return list(found.values())


def weight_of(layer: nn.Module) -> Tensor:
    """Return the weight of a layer as a matrix (out, in)."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if isinstance(layer, nn.Embedding):
        return weight.detach().T
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return weight.detach().flatten(1)
    return matrix_of(layer)


def _within(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


def observe(
    model: nn.Module,
    places: Iterable[Place],
    batches: Iterable[Any],
    forward: Callable[[nn.Module, Any], Any],
) -> int:
    """Gather the moments of the inputs of all places in one pass; the number of batches.

    Beyond a limit of memory for all, those of the largest layers are factored.

    Raises
    ------
    ValueError
        If an input is not finite.
    """
    places = list(places)
    for place in places:
        place.moments = moments_of(place.layer)
    by_size = sorted(places, key=_bytes, reverse=True)
    for place in by_size:
        if sum(map(_bytes, places)) > BYTES:
            factored = moments_of(place.layer, factored=True)
            place.moments = min(place.moments, factored, key=lambda moments: moments.bytes)
    links = _Links(model, places)
    hooks = links.hooks
    for place in places:
        hooks.append(place.layer.register_forward_pre_hook(_recorder(place), with_kwargs=True))
    count = 0
    try:
        with torch.no_grad():
            for batch in batches:
                forward(model, batch)
                count += 1
    finally:
        for hook in hooks:
            hook.remove()
    links.tell()
    return count


class _Links:
    """Which batch normalizations get the outputs of layers without bias."""

    def __init__(self, model: nn.Module, places: list[Place]):
        self.names: dict[nn.Module, tuple[str, ...]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            if type(module) in NORMS and module.running_mean is not None:
                self.names[module] = (*self.names.get(module, ()), name)
        self.outputs: dict[int, tuple[weakref.ref, Place]] = {}
        self.after: dict[int, set[nn.Module]] = {}
        self.before: dict[nn.Module, list[Place | None]] = {norm: [] for norm in self.names}
        self.places = [one for one in places if getattr(one.layer, "bias", None) is None]
        self.hooks: list[Any] = []
        if self.names:
            for place in self.places:
                self.hooks.append(place.layer.register_forward_hook(self._left(place)))
            for norm in self.names:
                self.hooks.append(norm.register_forward_pre_hook(self._entered))

    def _left(self, place: Place) -> Callable[..., None]:
        def record(module: nn.Module, given: tuple, output: Tensor) -> None:
            self.outputs[id(output)] = weakref.ref(output), place

        return record

    def _entered(self, norm: nn.Module, given: tuple) -> None:
        kept, place = self.outputs.get(id(given[0]) if given else 0, (None, None))
        place = place if kept is not None and kept() is given[0] else None
        self.before[norm].append(place)
        if place is not None:
            self.after.setdefault(id(place), set()).add(norm)

    def tell(self) -> None:
        """Tell the layers that have one normalization for themselves."""
        for place in self.places:
            norms = self.after.get(id(place), set())
            if len(norms) == 1:
                (norm,) = norms
                if all(one is place for one in self.before[norm]):
                    place.norms = self.names[norm]


def _bytes(place: Place) -> int:
    """Memory of the moments of a layer."""
    return 0 if place.moments is None else place.moments.bytes


def _recorder(place: Place) -> Callable[..., None]:
    def record(module: nn.Module, given: tuple, named: Mapping[str, Any]) -> None:
        x = given[0] if given else named["input"]
        assert place.moments is not None
        try:
            add_inputs(place.moments, module, x)
        except ValueError as error:
            raise ValueError(f"layer {place.names[0]!r}: {error}") from None

    return record


def call(model: nn.Module, batch: Any) -> Any:
    """Call a model with a batch: a tensor; a mapping of arguments; or a tuple, whose first counts.

    A loader of inputs and targets can so be passed as it is.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if isinstance(batch, Mapping):
        return model(**{name: _on(value, device) for name, value in batch.items()})
    if isinstance(batch, (tuple, list)):
        batch = batch[0]
    return model(_on(batch, device))


def _on(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def output_of(result: Any) -> Tensor:
    """Return the tensor of what a model returned: itself, its logits, or the first it has."""
    if isinstance(result, Tensor):
        return result
    if isinstance(getattr(result, "logits", None), Tensor):
        return result.logits
    values = result.values() if isinstance(result, Mapping) else result
    if isinstance(values, (tuple, list)) or hasattr(values, "__iter__"):
        for value in values:
            if isinstance(value, Tensor) and value.is_floating_point():
                return value
    raise TypeError(
        f"the model returned {type(result).__name__}, expected a tensor or a tuple of them"
    )


def put_layer(model: nn.Module, place: Place, layer: TensorizedModule) -> Callable[[], None]:
    """Replace a layer, and correct the normalization after it; return what takes that back."""
    put(model, place.names, layer)
    if not place.norms:
        return lambda: put(model, place.names, place.layer)
    norm = model.get_submodule(place.norms[0])
    assert place.moments is not None
    assert isinstance(norm.running_mean, Tensor)
    before = norm.running_mean.clone()
    norm.running_mean -= layer.gap(weight_of(place.layer), place.moments.first()).to(before)

    def back() -> None:
        put(model, place.names, place.layer)
        assert isinstance(norm.running_mean, Tensor)
        norm.running_mean.copy_(before)

    return back


def put(model: nn.Module, names: Iterable[str], module: nn.Module) -> None:
    """Replace the module of every name."""
    for name in names:
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module)
