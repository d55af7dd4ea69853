"""What a network is, and what the engine refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.engine import Engine, Masks, Network
from bench.registry import LimenError
from bench.spaces import Pixels


def plain() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


class WithLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = plain()

    def forward(self, images: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.inner(images))


def batch(count: int = 3, size: int = 8) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_a_network_is_in_evaluation_mode_with_frozen_parameters() -> None:
    module = plain().train()
    Network(name="n", module=module)
    assert not module.training
    assert not any(value.requires_grad for value in module.parameters())


def test_the_fingerprint_is_that_of_the_weights_alone() -> None:
    first, second = Network(name="a", module=plain()), Network(name="b", module=plain())
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64


@pytest.mark.parametrize("change", ["value", "type", "name"])
def test_the_fingerprint_changes_with_the_weights(change: str) -> None:
    module = plain()
    if change == "value":
        module[4].bias.data[0] += 1e-6
    elif change == "type":
        module.double()
    else:
        module = nn.Sequential(nn.Identity(), *module)
    assert Network(name="n", module=module).fingerprint != Network(name="n", module=plain()).fingerprint


def test_the_fingerprint_is_not_changed_by_the_engine() -> None:
    module = plain()
    before = Network(name="n", module=module).fingerprint
    Engine(module, device="cpu").scores(batch())
    assert Network(name="n", module=module).fingerprint == before


def test_an_object_with_logits_is_accepted() -> None:
    assert torch.equal(
        Engine(WithLogits(), device="cpu").scores(batch()), Engine(plain(), device="cpu").scores(batch())
    )


def test_a_module_without_modes_is_accepted_as_exported_programs_are() -> None:
    class Modeless(nn.Sequential):
        def train(self, mode: bool = True) -> Modeless:
            raise NotImplementedError("Calling train() is not supported yet.")

    engine = Engine(Modeless(*plain()), device="cpu", precision="fp32")
    torch.testing.assert_close(engine.scores(batch()), Engine(plain(), device="cpu", precision="fp32").scores(batch()))


def test_a_plain_module_is_wrapped_without_normalisation() -> None:
    network = Engine(plain(), device="cpu").network
    assert (network.name, network.size, network.mean, network.std) == ("Sequential", None, (0.0,) * 3, (1.0,) * 3)


def test_the_default_layer_is_the_last_with_a_spatial_output() -> None:
    assert Engine(plain(), device="cpu").default_layer(batch()) == "1"


def test_a_network_without_a_spatial_layer_has_no_default_layer() -> None:
    with pytest.raises(LimenError, match=r"no layer has a spatial output .* allowed by name are 0, 1"):
        Engine(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), device="cpu").default_layer(batch())


def test_weights_in_half_precision_are_run_in_float32() -> None:
    engine = Engine(plain().half(), device="cpu", precision="fp32")
    assert engine.scores(batch()).dtype == torch.float32


def test_a_module_that_reshapes_with_view_is_run_in_the_plain_layout() -> None:
    class View(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(144, 3)

        def forward(self, images: Tensor) -> Tensor:
            hidden = self.conv(images)
            return self.fc(hidden.view(len(hidden), -1))

    module = View()
    images = batch()
    with torch.no_grad():
        expected = module(images)
    engine = Engine(module, device="cpu", precision="fp32")
    torch.testing.assert_close(engine.scores(images), expected)
    assert engine.gradients(images, None, space=Pixels()).shape == images.shape


@pytest.mark.parametrize(
    ("output", "message"),
    [("tuple", "an output of tuple, allowed is a tensor"), ("image", r"an output of shape \(3, 4, 6, 6\), allowed is")],
)
def test_an_output_that_is_no_table_of_logits_is_refused(output: str, message: str) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> object:
            return (images, images) if output == "tuple" else self.conv(images)

    with pytest.raises(LimenError, match=f"network 'Odd': given {message}"):
        Engine(Odd(), device="cpu").scores(batch())


def test_something_else_than_a_module_is_refused() -> None:
    with pytest.raises(LimenError, match=r"network 'n': given a function, allowed is a torch\.nn\.Module"):
        Network(name="n", module=lambda images: images)  # type: ignore[arg-type]


def test_a_std_that_is_not_positive_is_refused() -> None:
    with pytest.raises(LimenError, match="allowed are one mean and one positive std a channel"):
        Network(name="n", module=plain(), std=(1.0, 0.0, 1.0))


def test_a_network_that_gives_nan_is_named_with_its_images() -> None:
    class Poisoned(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :3].log()

    images = batch().abs() + 1
    images[1] = -images[1]
    engine = Engine(Network(name="poisoned", module=Poisoned()), device="cpu", batch_size=2)
    with pytest.raises(LimenError, match=r"network 'poisoned': .* not finite for 1 of 3 images \(index 1\)"):
        engine.scores(images)
    with pytest.raises(LimenError, match=r"network 'poisoned': .* not finite for 1 of 3 images \(index 1\)"):
        engine.gradients(images, torch.zeros(3, dtype=torch.int64), space=Pixels())
    masks = Masks.shared(torch.tensor([[1.0], [0.0], [1.0]]))
    with pytest.raises(LimenError, match=r"network 'poisoned': .* not finite for 3 of 3 images \(index 0, 1, 2\)"):
        engine.perturbed_scores(images, masks, None, space=Pixels())


def test_an_image_is_named_by_its_place_though_others_are_remembered(engine: Engine, images: Tensor) -> None:
    engine.scores(images[:2])
    with pytest.raises(LimenError, match=r"\(index 3\)"):
        engine.scores(torch.cat([images[:3], images[3:] * torch.nan]))


def test_a_gradient_that_is_not_finite_is_named() -> None:
    class Root(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :3].sqrt()

    engine = Engine(Network(name="root", module=Root()), device="cpu")
    with pytest.raises(LimenError, match=r"output or gradient is not finite for 2 of 2 images \(index 0, 1\)"):
        engine.gradients(torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), space=Pixels())


def test_a_network_without_gradient_is_named() -> None:
    class Flat(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.detach().flatten(1)[:, :3]

    with pytest.raises(LimenError, match="network 'Flat': its output has no gradient"):
        Engine(Flat(), device="cpu").gradients(batch(), None, space=Pixels())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda engine: Engine(plain(), device="gpu"), "device: unknown name 'gpu'; allowed are auto, cpu"),
        (lambda engine: Engine(plain(), device="cuda:99"), "device: given 'cuda:99', but this machine has"),
        (lambda engine: Engine(plain(), precision="fp8"), "engine, precision: unknown name 'fp8'; .* did you mean"),
        (lambda engine: Engine(plain(), batch_size=0), "given a batch size of 0, allowed is 1 or more"),
        (lambda engine: engine.scores(batch(), "logits"), "score: unknown name 'logits'; .* did you mean 'logit'"),
        (lambda engine: engine.tap(batch(), "stags"), "layer: unknown name 'stags'; .* did you mean 'stage'"),
        (lambda engine: engine.head("stags"), "layer: unknown name 'stags'; .* did you mean 'stage'"),
        (lambda engine: engine.prepare(np.zeros((1, 8, 8, 3), np.uint8)), "`Engine.inputs` makes them from uint8"),
        (lambda engine: engine.prepare(batch(0)), "allowed is at least one"),
        (lambda engine: engine.inputs(np.zeros((1, 8, 8))), r"given float64 \(1, 8, 8\), allowed is uint8"),
        (lambda engine: engine.targets(batch(), [0, 1]), "for 3 images, allowed is one class index an image"),
        (lambda engine: engine.targets(batch(), [0, 1, 5]), "given classes from 0 to 5, allowed is 0 to 4"),
        (lambda engine: engine.path_gradients(batch(), [0, 1], [1], None, space=Pixels()), "two lines .* equal length"),
    ],
)
def test_a_fault_is_one_sentence_with_what_was_given_and_what_is_allowed(engine: Engine, call, message: str) -> None:
    with pytest.raises(LimenError, match=message):
        call(engine)


def test_pictures_are_scaled_and_normalised(engine: Engine) -> None:
    pictures = np.full((2, 16, 16, 3), 255, np.uint8)
    pictures[1] = 0
    inputs = engine.inputs(pictures)
    assert inputs.shape == (2, 3, 16, 16)
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs[:, 0, 0, 0], torch.tensor([2.0, -2.0]))


def test_pictures_of_another_shape_are_cropped_to_the_centre_and_resized(engine: Engine) -> None:
    pictures = np.zeros((1, 32, 64, 3), np.uint8)
    pictures[:, :, 16:48] = 255
    torch.testing.assert_close(engine.inputs(pictures), torch.full((1, 3, 16, 16), 2.0))


def test_float_images_pass_through_prepare_untouched(engine: Engine) -> None:
    images = batch()
    assert engine.prepare(images) is images or engine.prepare(images).data_ptr() == images.data_ptr()
    assert engine.prepare(images.double().numpy()).dtype == torch.float32


def test_arrays_that_torch_cannot_share_are_accepted(engine: Engine) -> None:
    images = np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32)
    locked, reversed_, labels = images.copy(), images[::-1], np.array([0, 1, 2])
    for array in (locked, labels):
        array.flags.writeable = False
    assert torch.equal(engine.scores(locked), engine.scores(images))
    assert torch.equal(engine.scores(reversed_), engine.scores(images).flip(0))
    assert engine.targets(images, labels).tolist() == [0, 1, 2]
    assert engine.inputs(np.zeros((2, 16, 16, 3), np.uint8)[::-1, ::-1]).shape == (2, 3, 16, 16)


def test_numpy_gives_what_numpy_can_hold(engine: Engine) -> None:
    assert engine.numpy(torch.ones(2, dtype=torch.bfloat16)).dtype == np.float32
    assert engine.numpy(torch.ones(2, requires_grad=True)).tolist() == [1, 1]
