"""A small residual network: four named stages, average pooling, one linear head."""

from __future__ import annotations

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; the ReLUs are modules, so that rules and hooks find them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        inner = self.relu1(self.norm1(self.conv1(features)))
        return self.relu2(self.norm2(self.conv2(inner)) + self.shortcut(features))


class ResidualNetwork(nn.Module):
    """A classifier whose head is linear in the pooled activations of `stage4`.

    Parameters
    ----------
    classes : int
    widths : channels of the four stages
    strides : strides of stem and stages
    """

    def __init__(
        self, classes: int, widths: tuple[int, int, int, int], strides: tuple[int, int, int, int, int]
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, strides[0], 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.stage1 = ResidualBlock(widths[0], widths[0], strides[1])
        self.stage2 = ResidualBlock(widths[0], widths[1], strides[2])
        self.stage3 = ResidualBlock(widths[1], widths[2], strides[3])
        self.stage4 = ResidualBlock(widths[2], widths[3], strides[4])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(widths[3], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 (N, 3, H, W) to logits (N, classes)."""
        features = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(images)))))
        return self.head(self.flatten(self.pool(features)))
