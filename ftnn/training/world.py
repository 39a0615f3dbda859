"""World: the processes that train one model together, under torchrun.

Every process holds the whole model and computes the gradient of its share of each batch;
``DistributedDataParallel`` takes the mean. The leader, rank 0, alone reads and writes the run
folder. A single process does not need torch here.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Rank of this process and number of processes.

    Attributes
    ----------
    rank, size : int
        0 and 1 for a single process.

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
        """Return the part of ``rows`` for this process; parts differ by at most one row."""
        return np.array_split(rows, self.size)[self.rank]

    @overload
    def sum(self, x: "torch.Tensor") -> "torch.Tensor": ...

    @overload
    def sum(self, x: np.ndarray) -> np.ndarray: ...

    def sum(self, x: "torch.Tensor | np.ndarray") -> "torch.Tensor | np.ndarray":
        """Sum a tensor, or a NumPy array, over the processes."""
        if self.size == 1:
            return x
        import torch
        import torch.distributed as dist

        if isinstance(x, np.ndarray):
            return self.sum(torch.from_numpy(x)).numpy()
        sent = x.to("cpu", copy=True)  # over Gloo; gradients go their own way
        dist.all_reduce(sent)
        return sent.to(x.device)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return bool(self.sum(np.array([float(flag)]))[0] > 0.0)

    def from_leader(self, make: Callable[[], T]) -> T:
        """Call ``make`` on the leader and share the result, or the exception, with all."""
        if self.size == 1:
            return make()
        import torch.distributed as dist

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
        """Run the block on the leader before the others, for example a download into a cache."""
        if not self.leads:
            self.wait()
        try:
            yield
        finally:
            if self.leads:
                self.wait()

    def wait(self) -> None:
        """Wait until every process reaches this point."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()


def current_world() -> World:
    """Return the world of this process: that of ``torch.distributed`` where it is initialized."""
    if "torch" not in sys.modules:
        return World()
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size())


@contextmanager
def joined_world() -> Iterator[World]:
    """Join the processes started by torchrun, if any.

    Gloo connects CPUs, NCCL connects CUDA devices; every process uses the device whose number is
    its local rank.

    Yields
    ------
    World
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or current_world().size > 1:
        yield current_world()
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group()
    try:
        yield current_world()
    finally:
        dist.destroy_process_group()
