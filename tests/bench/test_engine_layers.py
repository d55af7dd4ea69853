"""Taps, gradients at a layer, and the network cut in two."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.engine import TOLERANCE, Engine, Masks
from bench.registry import LimenError
from bench.spaces import Pixels


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.act(self.norm(self.conv2(functional.relu(self.conv1(hidden)))) + hidden)


class Residual(nn.Module):
    """A residual network; its stages are cut points, its blocks' insides are not."""

    def __init__(self, *, shape: bool = False, branch: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.stage1, self.stage2 = (nn.Sequential(Block(6), Block(6)) for _ in range(2))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(6, 4)
        self._shape, self._branch = shape, branch

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.stage2(self.stage1(self.stem(images)))
        if self._branch and float(hidden.detach().sum()) == 1e9:
            raise AssertionError
        pooled = functional.adaptive_avg_pool2d(hidden, 1)
        pooled = pooled.reshape(images.shape[0], -1) if self._shape else torch.flatten(pooled, 1)
        return self.fc(self.dropout(pooled))


def residual(**options: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Residual(**options)


def on(module: nn.Module, batch_size: int = 3) -> Engine:
    return Engine(module, device="cpu", precision="fp32", batch_size=batch_size)


class AtLayer(Pixels):
    """A space whose coordinates are the activations of a layer."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def coordinates(self, engine: Engine, images: Tensor) -> Tensor:
        return engine.tap(images, self.layer)


def test_a_tap_gives_what_the_layer_gives(engine: Engine, images: Tensor) -> None:
    module = engine.network.module
    torch.testing.assert_close(engine.tap(images, "stage"), module.stage(module.stem(images)))


def test_a_tap_is_not_changed_by_a_module_that_follows_in_place() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    engine, images = on(module), torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(engine.tap(images, "0"), module[0](images))
    activations, slopes = engine.tap_gradients(images, "0", torch.tensor([0, 1]))
    torch.testing.assert_close(activations, module[0](images))
    on_target = torch.eye(4)[[0, 1]][:, :, None, None]
    torch.testing.assert_close(slopes, (activations > 0) * on_target / 16)


def test_hooks_live_exactly_as_long_as_the_call(engine: Engine, images: Tensor) -> None:
    engine.tap(images, "stage")
    engine.tap_gradients(images, "stage", None)
    with pytest.raises(LimenError):
        engine.tap_gradients(images * torch.nan, "stage", torch.zeros(4, dtype=torch.int64))
    assert not any(part._forward_hooks for part in engine.network.module.modules())


def test_gradients_at_a_layer_are_those_of_the_rest_of_the_network(engine: Engine, images: Tensor) -> None:
    module, targets = engine.network.module, torch.tensor([4, 0, 2, 2])
    activations, slopes = engine.tap_gradients(images, "stage", targets)
    for hidden, slope, target in zip(activations, slopes, targets.tolist(), strict=True):
        leaf = hidden[None].clone().requires_grad_()
        module.fc(module.pool(leaf).flatten(1))[0, target].backward()
        torch.testing.assert_close(slope[None], leaf.grad)


def test_the_layer_that_is_not_named_is_the_default_one(engine: Engine, images: Tensor) -> None:
    assert engine.default_layer() == "stage"
    assert torch.equal(engine.tap(images), engine.tap(images, "stage"))
    assert torch.equal(engine.tap_gradients(images, None, None)[1], engine.tap_gradients(images, "stage", None)[1])


def test_a_layer_that_does_not_run_is_named(images: Tensor) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.used(pixels).mean((2, 3))

    engine = on(Idle())
    with pytest.raises(LimenError, match="layer 'idle': it did not run"):
        engine.tap(images, "idle")
    with pytest.raises(LimenError, match="layer 'idle': given as a cut point, but it runs never"):
        engine.head("idle")


@pytest.mark.parametrize("layer", ["stem", "stage1.0", "stage1", "stage2.1", "stage2", "stage2.0.act", "dropout", "fc"])
def test_the_head_of_the_tap_gives_the_scores(images: Tensor, layer: str) -> None:
    engine = on(residual())
    torch.testing.assert_close(
        engine.head(layer)(engine.tap(images, layer)), engine.scores(images), rtol=TOLERANCE, atol=TOLERANCE
    )
    assert engine._sweeps._splits[layer].traced


@pytest.mark.parametrize("layer", ["stage1", "stage2"])
@pytest.mark.parametrize("options", [{"shape": True}, {"branch": True}], ids=["reads a shape", "branches on data"])
def test_a_network_that_cannot_be_traced_is_replayed(images: Tensor, layer: str, options: dict[str, bool]) -> None:
    engine = on(residual(**options))
    activations = engine.tap(images, layer)
    torch.testing.assert_close(engine.head(layer)(activations), engine.scores(images), rtol=TOLERANCE, atol=TOLERANCE)
    assert not engine._sweeps._splits[layer].traced
    plain = on(residual()).gradients(images, torch.tensor([0, 1, 2, 3]), space=AtLayer(layer))
    replayed = engine.gradients(images, torch.tensor([0, 1, 2, 3]), space=AtLayer(layer))
    torch.testing.assert_close(replayed, plain, rtol=TOLERANCE, atol=1e-6)


def test_a_traced_head_leaves_the_layers_before_it_alone(images: Tensor) -> None:
    engine, ran = on(residual()), []
    activations = engine.tap(images, "stage1")
    engine.network.module.stem.register_forward_hook(lambda *_: ran.append("stem"))
    engine.network.module.fc.register_forward_hook(lambda *_: ran.append("fc"))
    engine.head_scores(activations[:2], "stage1")
    assert ran == ["fc"]


@pytest.mark.parametrize("layer", ["stage1.0.conv1", "stage2.1.norm"])
@pytest.mark.parametrize("options", [{}, {"branch": True}], ids=["traced", "replayed"])
def test_a_layer_beside_a_skip_connection_is_no_cut_point(images: Tensor, layer: str, options: dict[str, bool]) -> None:
    engine = on(residual(**options))
    with pytest.raises(LimenError, match=f"layer '{layer}': given as a cut point, but the logits also depend"):
        engine.head(layer)(engine.tap(images, layer))


def test_a_layer_that_runs_twice_is_no_cut_point() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.fc = nn.ReLU(), nn.Linear(12, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.fc(self.act(self.act(pixels).flatten(1)))

    with pytest.raises(LimenError, match="layer 'act': given as a cut point, but it runs 2 times"):
        on(Twice()).head("act")


def test_a_network_of_unknown_size_cannot_be_replayed_before_it_ran() -> None:
    with pytest.raises(LimenError, match="its input size is unknown; run it on an image first"):
        on(residual(branch=True)).head("stage2")(torch.zeros(1, 6, 8, 8))


def test_the_head_is_differentiable_where_its_input_is(images: Tensor) -> None:
    engine, targets = on(residual(), batch_size=64), torch.tensor([0, 1, 2, 3])
    activations, slopes = engine.tap_gradients(images, "stage2", targets)
    leaves = activations.clone().requires_grad_()
    engine.head("stage2")(leaves).gather(1, targets[:, None]).sum().backward()
    torch.testing.assert_close(leaves.grad, slopes)


def test_the_engine_runs_the_head_of_a_space_at_a_layer(images: Tensor) -> None:
    engine, space, targets = on(residual()), AtLayer("stage2"), torch.tensor([0, 1, 2, 3])
    slopes = engine.gradients(images, targets, space=space)
    torch.testing.assert_close(slopes, engine.tap_gradients(images, "stage2", targets)[1])
    path = engine.path_gradients(images, [1.0], [1.0], targets, space=space)
    torch.testing.assert_close(path, slopes)
    masks = Masks.shared(torch.tensor([[1.0] * 16, [0.5] * 16]))
    found = engine.perturbed_scores(images, masks, None, space=space, side=4)
    torch.testing.assert_close(found[:, 0], engine.scores(images), rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(found[:, 1], engine.head_scores(engine.tap(images, "stage2") / 2, "stage2"))


def test_a_vision_transformer_splits_between_its_blocks(images: Tensor) -> None:
    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 4, stride=4)
            self.token = nn.Parameter(torch.zeros(1, 1, 8))
            self.blocks = nn.Sequential(*(self._block() for _ in range(2)))
            self.head = nn.Linear(8, 3)

        @staticmethod
        def _block() -> nn.Module:
            return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)

        def forward(self, pixels: Tensor) -> Tensor:
            patches = self.patch(pixels).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.token.expand(patches.shape[0], -1, -1), patches], dim=1)
            return self.head(self.blocks(tokens)[:, 0])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        engine = on(Transformer())
    for layer in ("blocks.0", "blocks"):
        found = engine.head(layer)(engine.tap(images, layer))
        torch.testing.assert_close(found, engine.scores(images), rtol=TOLERANCE, atol=TOLERANCE)
        assert engine._sweeps._splits[layer].traced


def test_a_layer_inside_a_module_of_the_library_is_a_cut_point(images: Tensor) -> None:
    class Encoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True, dropout=0)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.fc = nn.Linear(12, 3)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.fc(self.encoder(pixels.reshape(-1, 64, 12)).mean(1))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        engine = on(Encoded())
    found = engine.head("encoder.layers.0")(engine.tap(images, "encoder.layers.0"))
    torch.testing.assert_close(found, engine.scores(images), rtol=TOLERANCE, atol=TOLERANCE)


def test_layers_are_listed_by_name(engine: Engine) -> None:
    assert engine.layers() == ["stem", "stem.0", "stem.1", "stage", "stage.0", "stage.1", "pool", "fc"]
