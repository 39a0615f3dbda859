"""World: the processes that train one model together, under torchrun.

Every process holds the whole model and computes the gradient of its share of each batch;
``DistributedDataParallel`` takes the mean. The leader, rank 0, alone reads and writes the run
folder.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Number of this process among how many.

    Attributes
    ----------
    rank, size : int
        0 and 1 for a process of its own.

    Examples
    --------
    >>> World().leads, World().share(np.arange(5))
    (True, array([0, 1, 2, 3, 4]))
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reads, writes and shows."""
        return self.rank == 0

    def share(self, rows: np.ndarray) -> np.ndarray:
        """Part of ``rows`` that this process takes; parts differ by at most one row."""
        return np.array_split(rows, self.size)[self.rank]

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor over the processes."""
        if self.size == 1:
            return x
        sent = x.to("cpu", copy=True)  # over Gloo; gradients go their own way
        dist.all_reduce(sent)
        return sent.to(x.device)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag))) > 0.0)

    def from_leader(self, make: Callable[[], T]) -> T:
        """Let the leader make something, and give it to all; what it raises, all raise."""
        if self.size == 1:
            return make()
        sent: list = [None, None]
        if self.leads:
            try:
                sent[0] = make()
            except Exception as error:  # goes to all processes, which raise it
                sent[1] = error
        dist.broadcast_object_list(sent, src=0)
        if sent[1] is not None:
            raise sent[1]
        return sent[0]

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the leader do something before the others, such as a download into a cache."""
        if not self.leads:
            dist.barrier()
        try:
            yield
        finally:
            if self.leads and self.size > 1:
                dist.barrier()

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.barrier()


def current_world() -> World:
    """World of this process: that of ``torch.distributed`` where it is initialized."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined_world() -> Iterator[World]:
    """Join the processes that torchrun started; alone where it did not.

    Gloo connects CPUs, and NCCL CUDA devices, of which every process takes the one with its own
    number on the machine.

    Yields
    ------
    World
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield current_world()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group()
    try:
        yield current_world()
    finally:
        dist.destroy_process_group()
