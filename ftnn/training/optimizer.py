"""The torch optimizer, schedule and device that a :class:`TrainConfig` names."""

import os
from collections.abc import Mapping

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
from .config import TrainConfig, check_device
from .module import TorchModule
from .weights import parameters_of

SGD_MOMENTUM = 0.9


def resolve_device(device: str) -> str:
    """Return the device for a ``TrainConfig.device``; raise ``ValueError`` if there is none.

    Under torchrun, "cuda" is the device whose number is the local rank.
    """
    check_device(device)
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


def real_views(module: TorchModule) -> dict[str, torch.Tensor]:
    """Return the parameters by dotted path, complex ones as leaves of two real numbers (..., 2).

    Both share their memory. Torch's fused optimizers take real parameters only; to them a complex
    number is two real ones.
    """
    return {
        name: torch.view_as_real(p.detach()) if p.is_complex() else p
        for name, p in parameters_of(module).items()
    }


def make_optimizer(
    config: TrainConfig, module: TorchModule, views: Mapping[str, torch.Tensor] | None = None
) -> torch.optim.Optimizer:
    """Make the torch optimizer for ``config``; fused, as there are many small parameters.

    Parameters
    ----------
    config : TrainConfig
    module : TorchModule
    views : mapping of str to tensor, optional
        What to optimize, as :func:`real_views` returns it; by default its result.
    """
    views = real_views(module) if views is None else views
    lr, decay = config.lr, config.weight_decay
    own = module.names_of(Linear)
    kinds = {isinstance(layer, Linear) for _, layer in module.model.walk() if layer.params}
    if config.linear_lr != 1.0 and True not in kinds:
        raise ValueError(
            f"linear_lr is {config.linear_lr}, but the model has no Linear layer; leave it at 1"
        )
    if not views:
        raise ValueError("the model has nothing to train, as all is frozen; thaw a part of it")
    groups = [  # those of a kind that is frozen are empty: what is thawed finds its rate again
        {"params": [view for name, view in views.items() if (name in own) == kind], "lr": rate}
        for kind, rate in ((False, lr), (True, lr * config.linear_lr))
        if kind in kinds
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
    """Make the torch learning rate schedule for ``config``, over ``total_steps`` steps."""
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
    # both are products of factors, so chaining them multiplies the two schedules
    return ChainedScheduler([main, LinearLR(optimizer, 1.0 / rising, total_iters=rising)])
