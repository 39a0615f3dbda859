"""TrainConfig: how a model is trained, and the torch optimizer and schedule it names."""

import math
import os
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
)

from ..layers.linear import Linear
from .module import TorchModule

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("onecycle", "cosine", "constant")
SGD_MOMENTUM = 0.9


@dataclass(frozen=True)
class TrainConfig:
    """How to train; every field is checked when the object is made.

    Parameters
    ----------
    epochs : int
        Passes over the training samples.
    batch_size : int
        Largest number of samples in a step; the batches of an epoch differ by at most one.
    lr : float
        Learning rate, the largest of the schedule.
    linear_lr : float
        Learning rate of the weights of :class:`ftnn.Linear` layers, as a share of ``lr``. The
        longer the chain, the smaller: a step changes every site, and their changes multiply.
    weight_decay : float
    optimizer : {"adamw", "adam", "sgd"}
        "sgd" has momentum 0.9.
    schedule : {"cosine", "onecycle", "constant"}
        Course of the learning rate over all steps; "cosine" and "onecycle" end near zero.
    warmup : float
        Fraction of all steps, in [0, 1), in which the learning rate rises.
    clip_norm : float, optional
        Gradients are scaled down to this norm; None or 0 is off.
    label_smoothing : float
        In [0, 1); applies to the training loss only.
    ema_decay : float
        Decay, in [0, 1), of an exponential moving average of the weights; 0 is off. When on, the
        averaged weights are the ones evaluated and saved as the model.
    seed : int
        Order of the samples, augmentation, and what layers draw: torch's own generator is seeded
        before every step.
    device : str
        "cpu", "cuda", "cuda:1", ..., or "auto" for CUDA where there is one.
    dtype : {"float32", "float64"}
    patience : int, optional
        Stop after this many epochs without a better validation result; None or 0 is off.
    threads : int, optional
        CPU threads of torch during training; None or 0 leaves them as they are.
    checkpoint_seconds : float
        Checkpoint also within an epoch when the last one is older than this; 0 is off.
    compile : bool
        Train through :func:`torch.compile`. The first step takes a minute or two, once for every
        size of a batch, of which there are at most two; the ones after it are faster.
    recompute : bool
        Keep little for the backward pass, and compute the rest again there: about half of the
        memory, a quarter more time. See :class:`ftnn.Sequential`.

    Raises
    ------
    ValueError
        Names the field, what it got, and what was expected.

    Examples
    --------
    >>> TrainConfig(epochs=3, lr=1e-2).schedule
    'cosine'
    >>> TrainConfig(lr=-1.0)
    Traceback (most recent call last):
        ...
    ValueError: lr is -1.0, expected a number > 0; try 1e-2
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 1e-2
    linear_lr: float = 1.0
    weight_decay: float = 0.0
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: float = 0.1
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    patience: int | None = None
    threads: int | None = None
    checkpoint_seconds: float = 0.0
    compile: bool = False
    recompute: bool = False

    def __post_init__(self):
        for name, remedy in (("epochs", "try 20"), ("batch_size", "try 64")):
            _check_integer(name, getattr(self, name), 1, remedy)
        _check_integer("seed", self.seed, 0, "any such integer gives a reproducible run")
        for name in ("patience", "threads"):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name), 0, "0 or None is off")
        _check_number("lr", self.lr, "> 0", "try 1e-2")
        _check_number("linear_lr", self.linear_lr, "> 0", "1 treats all weights alike")
        _check_number("weight_decay", self.weight_decay, ">= 0", "0 is off")
        _check_number("checkpoint_seconds", self.checkpoint_seconds, ">= 0", "0 is off")
        if self.clip_norm is not None:
            _check_number("clip_norm", self.clip_norm, ">= 0", "0 or None is off")
        for name in ("warmup", "label_smoothing", "ema_decay"):
            _check_number(name, getattr(self, name), "in [0, 1)", "0 is off")
        for name, choices in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("dtype", ("float32", "float64")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}"
                )
        _check_device(self.device)
        for name in ("compile", "recompute"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected True or False")
        if self.compile and self.recompute:
            raise ValueError(
                "compile and recompute are both True; take one: the compiler chooses by itself "
                "what it computes again"
            )


def _check_integer(name: str, value: Any, least: int, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name} is {value!r}, expected an integer >= {least}; {remedy}")


def _check_number(name: str, value: Any, expected: str, remedy: str) -> None:
    good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if good:
        x = float(value)
        good = {"> 0": x > 0.0, ">= 0": x >= 0.0, "in [0, 1)": 0.0 <= x < 1.0}[expected]
    if not good:
        raise ValueError(f"{name} is {value!r}, expected a number {expected}; {remedy}")


def _check_device(device: Any) -> None:
    kind, _, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in ("auto", "cpu", "cuda") or (number and (kind != "cuda" or not number.isdigit())):
        raise ValueError(f"device is {device!r}; choose one of auto, cpu, cuda, cuda:N")


def resolve_device(device: str) -> str:
    """Device to use for a ``TrainConfig.device``; raises ``ValueError`` if there is no such one.

    Under torchrun "cuda" is the device with the number of the process on its machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(device.partition(":")[2] or 0) >= count:
            raise ValueError(
                f"device is {device!r}, but torch finds {count} CUDA devices here; "
                "use device='auto' or 'cpu'"
            )
    return device


def make_optimizer(config: TrainConfig, module: TorchModule) -> torch.optim.Optimizer:
    """Torch's optimizer for ``config``; fused: a tensorized network has many small parameters."""
    lr, decay = config.lr, config.weight_decay
    linear = module.parameters_of(Linear)
    if config.linear_lr != 1.0 and not linear:
        raise ValueError(
            f"linear_lr is {config.linear_lr}, but the model has no Linear layer; leave it at 1"
        )
    own = {id(p) for p in linear}
    rest = [p for p in module.parameters() if id(p) not in own]
    groups = [
        {"params": params, "lr": rate}
        for params, rate in ((rest, lr), (linear, lr * config.linear_lr))
        if params
    ]
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(groups, lr, momentum=SGD_MOMENTUM, weight_decay=decay, fused=True)


def make_scheduler(
    config: TrainConfig, optimizer: torch.optim.Optimizer, total_steps: int
) -> LRScheduler:
    """Torch's learning rate schedule for ``config``, over ``total_steps`` steps."""
    if config.schedule == "onecycle":
        # torch divides by zero for a first phase of exactly one step
        one_step = config.warmup * total_steps == 1.0
        return OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps,
            pct_start=2.0 / total_steps if one_step else config.warmup,
            cycle_momentum=False,
        )
    main: LRScheduler
    if config.schedule == "cosine":
        main = CosineAnnealingLR(optimizer, total_steps)
    else:
        main = ConstantLR(optimizer, factor=1.0)
    rising = round(config.warmup * total_steps)
    if rising < 2:
        return main
    # both are products of factors, so that their chain is the product of the two courses
    return ChainedScheduler([main, LinearLR(optimizer, 1.0 / rising, total_iters=rising)])
