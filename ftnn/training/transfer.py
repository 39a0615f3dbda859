"""Transfer from one model to another, by blocks: the state of the optimizer, running averages."""

import copy
from collections.abc import Mapping
from typing import Any

import torch

from ..layers.surgery import Block

Blocks = Mapping[str, Block]
"""Places of old parameters in the new ones, by dotted path of the new ones."""

Arrays = Mapping[str, torch.Tensor]


def check_blocks(blocks: Blocks, old: Arrays, new: Arrays) -> None:
    """Raise ``ValueError`` unless every block is part of an old parameter and of a new one."""
    for name, block in blocks.items():
        if name not in new:
            raise ValueError(f"the new model has no parameter {name!r}")
        if block.name not in old:
            raise ValueError(f"the old model has no parameter {block.name!r}, named for {name!r}")
        shape = tuple(new[name][block.target].shape)
        expected = tuple(old[block.name][block.source].shape)
        if shape != expected:
            raise ValueError(
                f"the block of {name!r} for {block.name!r} has shape {shape}, expected {expected}"
            )


def transfer_optimizer(
    blocks: Blocks,
    old: Arrays,
    new: Arrays,
    source: torch.optim.Optimizer,
    target: torch.optim.Optimizer,
) -> None:
    """Give an optimizer the settings of another, and its state by blocks.

    Parameters
    ----------
    blocks : mapping of str to Block
    old, new : mapping of str to tensor
        Parameters of the two optimizers, ``source`` and ``target``, by dotted path.
    source, target : torch.optim.Optimizer
        Equally many groups of parameters.
    """
    for before, group in zip(source.param_groups, target.param_groups, strict=True):
        group.update({key: value for key, value in before.items() if key != "params"})
    for name, block in blocks.items():
        state = source.state.get(old[block.name], {})
        if state:
            target.state[new[name]] = {
                key: _transfer(value, old[block.name], new[name], block)
                for key, value in state.items()
            }
    if isinstance(target, torch.optim.SGD) and target.state:  # starts with all momenta or none
        for name, parameter in new.items():
            if name not in blocks:
                target.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}


def transfer_arrays(blocks: Blocks, source: Arrays, target: Arrays) -> None:
    """Copy the blocks of old arrays into new ones, in place."""
    for name, block in blocks.items():
        target[name][block.target].copy_(source[block.name][block.source])


def _transfer(value: Any, source: torch.Tensor, target: torch.Tensor, block: Block) -> Any:
    """Copy the optimizer state of an old parameter to a new one: zero around the block."""
    if not isinstance(value, torch.Tensor):
        return copy.copy(value)
    if value.shape != source.shape:  # a count of steps
        return value.clone()
    out = torch.zeros_like(target, dtype=value.dtype, requires_grad=False)
    out[block.target].copy_(value[block.source])
    return out
