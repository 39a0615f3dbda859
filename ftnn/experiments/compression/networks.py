"""The dense networks that are compressed: a perceptron and a small residual network."""

from torch import Tensor, nn

KINDS = ("mlp", "resnet")
"""Names of the networks."""

WIDTH = 1024
"""Neurons of both hidden layers of the perceptron."""

CHANNELS = (32, 64, 128)
"""Channels of the blocks of the residual network; every block after the first halves the image."""


def dense_network(kind: str) -> nn.Module:
    """Return an untrained network for images (batch, 1, 28, 28) and ten classes.

    Parameters
    ----------
    kind : {"mlp", "resnet"}
        784-1024-1024-10 with ReLU, 1.9 million parameters; or residual blocks of 32, 64 and 128
        channels, 0.3 million.

    Examples
    --------
    >>> import torch
    >>> [dense_network(kind)(torch.zeros(2, 1, 28, 28)).shape for kind in KINDS]
    [torch.Size([2, 10]), torch.Size([2, 10])]
    """
    if kind == "mlp":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, 10),
        )
    if kind == "resnet":
        first = CHANNELS[0]
        blocks = [Block(a, b) for a, b in zip((first, *CHANNELS), CHANNELS, strict=False)]
        return nn.Sequential(
            nn.Conv2d(1, first, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(CHANNELS[-1], 10),
        )
    raise ValueError(f"network is {kind!r}, expected one of {', '.join(KINDS)}")


class Block(nn.Module):
    """Two convolutions with batch normalization, and a connection around them."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.around: nn.Module = nn.Identity()
        if inputs != outputs:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height', width')."""
        return nn.functional.relu(self.body(x) + self.around(x))
