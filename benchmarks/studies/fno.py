"""Fourier neural operators in one dimension, to compare with.

The network is that of the package `neuraloperator` where it is installed (`pip install
neuraloperator`), otherwise one of the published architecture (Li et al., arXiv:2010.08895): a lift
of every point, layers gelu(K v + W v) with K a product with a weight for every kept Fourier mode
and W a matrix at every point, the last one without gelu, and a projection of every point.
"""

import math
import time
from dataclasses import dataclass

import torch

SOURCE_OWN, SOURCE_PACKAGE = "own, as published", "neuraloperator"


@dataclass(frozen=True)
class FNOOptions:
    """Size and training of an FNO; sizes and rates of the paper, but for width and epochs."""

    modes: int = 16
    width: int = 32
    depth: int = 4
    epochs: int = 100
    seconds: float = float("inf")  # training ends, its rate at zero, at the first of both
    batch_size: int = 16
    lr: float = 1e-3
    seed: int = 0


class SpectralConvolution(torch.nn.Module):
    """Product with a complex matrix (in, out) for each of the lowest Fourier modes."""

    def __init__(self, width: int, modes: int):
        super().__init__()
        weight = torch.rand(width, width, modes, dtype=torch.cfloat) / width**2
        self.weight, self.modes = torch.nn.Parameter(weight), modes

    def forward(self, v: torch.Tensor) -> torch.Tensor:
        points = v.shape[-1]
        low = torch.fft.rfft(v)[..., : self.modes]  # (batch, in, modes)
        mixed = torch.einsum("bik,iok->bok", low, self.weight[..., : low.shape[-1]])
        return torch.fft.irfft(mixed, points)  # (batch, out, points)


class FNO1d(torch.nn.Module):
    """Map (batch, channels, points) to (batch, outputs, points); the points are a channel more."""

    def __init__(self, channels: int, outputs: int, modes: int, width: int, depth: int):
        super().__init__()
        self.lift = torch.nn.Conv1d(channels + 1, width, 1)
        self.kernels = torch.nn.ModuleList(SpectralConvolution(width, modes) for _ in range(depth))
        self.matrices = torch.nn.ModuleList(torch.nn.Conv1d(width, width, 1) for _ in range(depth))
        self.project = torch.nn.Sequential(
            torch.nn.Conv1d(width, 128, 1), torch.nn.GELU(), torch.nn.Conv1d(128, outputs, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype).expand(len(x), 1, -1)
        v = self.lift(torch.cat([x, grid], dim=1))
        for n, (kernel, matrix) in enumerate(zip(self.kernels, self.matrices, strict=True)):
            v = kernel(v) + matrix(v)
            if n + 1 < len(self.kernels):
                v = torch.nn.functional.gelu(v)
        return self.project(v)


def make_fno(channels: int, outputs: int, options: FNOOptions) -> tuple[torch.nn.Module, str]:
    """Build an FNO; return it and where it is from."""
    torch.manual_seed(options.seed)
    try:
        from neuralop.models import FNO
    except ImportError:
        sizes = options.modes, options.width, options.depth
        return FNO1d(channels, outputs, *sizes), SOURCE_OWN
    model = FNO(
        n_modes=(2 * options.modes,),  # it counts negative frequencies as well
        in_channels=channels,
        out_channels=outputs,
        hidden_channels=options.width,
        n_layers=options.depth,
        positional_embedding="grid",
    )
    return model, SOURCE_PACKAGE


def relative_errors(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Relative L2 errors (batch,) of functions (batch, outputs, points)."""
    return (found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)


class TrainedFNO:
    """An FNO, trained on the mean relative error, of inputs and outputs of unit scale.

    Parameters
    ----------
    inputs : tensor (n, channels, points)
    targets : tensor (n, outputs, points)
    options : FNOOptions
    """

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, options: FNOOptions):
        inputs, targets = inputs.float(), targets.float()
        self.model, self.source = make_fno(inputs.shape[1], targets.shape[1], options)
        self.center, self.spread = inputs.mean(dim=(0, 2))[:, None], inputs.std(dim=(0, 2))[:, None]
        self.scale = targets.std()
        self.num_params = sum(p.numel() * (1 + p.is_complex()) for p in self.model.parameters())
        optimizer = torch.optim.Adam(self.model.parameters(), options.lr)
        steps = options.epochs * -(-len(inputs) // options.batch_size)
        order = torch.Generator().manual_seed(options.seed)
        begin, self.steps = time.perf_counter(), 0
        for _ in range(options.epochs):
            for rows in torch.randperm(len(inputs), generator=order).split(options.batch_size):
                spent = (time.perf_counter() - begin) / options.seconds
                share = max(self.steps / steps, spent)
                if share >= 1.0:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = options.lr * 0.5 * (1.0 + math.cos(math.pi * share))
                optimizer.zero_grad()
                relative_errors(self._apply(inputs[rows]), targets[rows]).mean().backward()
                optimizer.step()
                self.steps += 1
            else:
                continue
            break  # the time is over
        self.seconds = time.perf_counter() - begin

    def _apply(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.scale * self.model((inputs - self.center) / self.spread)

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs (n, channels, points) to outputs (n, outputs, points), in batches."""
        return torch.cat([self._apply(few) for few in inputs.float().split(16)])
