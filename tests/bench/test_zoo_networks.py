"""Networks of the zoo: trained once, cached whole, and faults of everyone else's told in one sentence."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bench.engine import Engine
from bench.engine.randomise import layers_from_the_top, reinitialised
from bench.registry import LimenError
from bench.store import sha256_file
from bench.zoo import load_images, load_network, network_names
from bench.zoo.checkpoints import fill, read_weights
from bench.zoo.recipes import RECIPES, STRIDES, WIDTHS
from bench.zoo.resnet import ResidualNetwork
from bench.zoo.training import cache_folder, train_or_recall, training_record


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache that holds `tiny@digits`; do not change what is in it."""
    folder = tmp_path_factory.mktemp("zoo_cache")
    load_network("tiny@digits", cache=folder, device="cpu", progress=False)
    return folder


def small_module(classes=3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ResidualNetwork(classes, WIDTHS["tiny"], STRIDES[32])


def agreement(network, images):
    engine = Engine(network, device="cpu", precision="fp32")
    return engine.scores(engine.inputs(images.pictures)).argmax(dim=1).numpy() == images.labels


def weights_file(cache):
    (path,) = cache.glob("networks/*/weights.safetensors")
    return path


@pytest.fixture
def own_cache(cache, tmp_path):
    """A copy of the cache that a test may damage."""
    return shutil.copytree(cache, tmp_path / "cache")


def test_tiny_network_reads_digits(cache):
    network = load_network("tiny@digits", cache=cache, progress=False)
    assert agreement(network, load_images("digits")).mean() >= 0.85
    assert network.classes == tuple("0123456789")
    assert sum(value.numel() for value in network.module.parameters()) < 25_000


def test_recorded_accuracy_is_the_one_measured_through_the_engine(cache):
    network = load_network("tiny@digits", cache=cache, progress=False)
    recorded = training_record("tiny@digits", cache=cache)["test_accuracy"]
    assert agreement(network, load_images("digits")).mean() == pytest.approx(recorded, abs=1e-9)


def test_no_record_before_training(tmp_path):
    assert training_record("tiny@digits", cache=tmp_path) is None


def test_recalled_network_is_the_trained_one(cache):
    first = load_network("tiny@digits", cache=cache, progress=False)
    second = load_network("tiny@digits", cache=cache, progress=False)
    assert first.fingerprint == second.fingerprint
    assert first.module is not second.module


def test_training_again_gives_the_same_weights(cache, tmp_path):
    again = load_network("tiny@digits", cache=tmp_path, device="cpu", progress=False)
    assert again.fingerprint == load_network("tiny@digits", cache=cache, progress=False).fingerprint


def test_loading_leaves_the_callers_random_state_alone(cache):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_network("untrained@digits", cache=cache, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_untrained_control_is_near_chance_and_needs_no_cache(tmp_path):
    network = load_network("untrained@digits", cache=tmp_path, progress=False)
    assert agreement(network, load_images("digits")).mean() < 0.35
    assert not list(tmp_path.iterdir())


def test_stages_can_be_tapped_and_the_head_is_linear_in_the_pooled_last_stage():
    network = load_network("untrained@digits", progress=False)
    engine = Engine(network, device="cpu", precision="fp32")
    inputs = engine.inputs(load_images("digits", n=4).pictures)
    assert {"stem", "stage1", "stage2", "stage3", "stage4", "head"} <= set(engine.layers())
    activations = engine.tap(inputs, network.layer)
    assert activations.shape == (4, 240, 4, 4)
    by_hand = activations.mean(dim=(2, 3)) @ network.module.head.weight.T + network.module.head.bias
    torch.testing.assert_close(engine.scores(inputs), by_hand, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(engine.head_scores(activations, "stage4"), by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("images", ["digits", "scenes", "scenes_biased"])
def test_resnet_has_about_a_million_parameters(images):
    module = RECIPES[f"resnet@{images}"].build(8)
    assert 1.0e6 < sum(value.numel() for value in module.parameters()) < 1.3e6


def test_torn_weights_are_dropped_with_a_warning_and_trained_again(own_cache):
    path = weights_file(own_cache)
    fingerprint = load_network("tiny@digits", cache=own_cache, progress=False).fingerprint
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.warns(UserWarning, match=r"weights.safetensors: content differs.*'tiny@digits' is trained again"):
        network = load_network("tiny@digits", cache=own_cache, device="cpu", progress=False)
    assert network.fingerprint == fingerprint
    load_network("tiny@digits", cache=own_cache, progress=False)


def test_weights_of_the_wrong_shape_are_refused_even_with_the_right_hash(own_cache):
    path = weights_file(own_cache)
    state = load_file(path)
    state["head.weight"] = torch.zeros(7, 28)
    save_file(state, path)
    manifest = path.with_name("manifest.json")
    facts = json.loads(manifest.read_text())
    facts["files"][path.name]["sha256"] = sha256_file(path)
    manifest.write_text(json.dumps(facts))
    with pytest.warns(
        UserWarning, match=r"'head.weight' is \(7, 28\) where the network has \(10, 28\)\. It is dropped"
    ):
        load_network("tiny@digits", cache=own_cache, device="cpu", progress=False)


@pytest.mark.long
def test_a_folder_without_a_manifest_is_not_taken_for_a_network(own_cache):
    weights_file(own_cache).with_name("manifest.json").unlink()
    assert training_record("tiny@digits", cache=own_cache) is None
    load_network("tiny@digits", cache=own_cache, device="cpu", progress=False)
    assert training_record("tiny@digits", cache=own_cache)["test_accuracy"] >= 0.85


def test_training_that_fails_its_floor_is_an_error_and_is_not_cached(tmp_path, monkeypatch):
    hasty = replace(RECIPES["tiny@digits"], train=20, epochs=1, floor=0.99)
    monkeypatch.setitem(RECIPES, "tiny@digits", hasty)
    with pytest.raises(LimenError, match=r"reached a test accuracy of 0\.\d+, at least 0.99 is expected"):
        train_or_recall("tiny@digits", cache=tmp_path, device="cpu", progress=False)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_cache_folder_follows_argument_then_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMEN_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LIMEN_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "limen"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "limen"


def test_a_cache_that_is_a_file_is_told(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(LimenError, match="given a file, allowed is a folder"):
        load_network("tiny@digits", cache=tmp_path / "cache")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that nobody, root included, can write to")
def test_a_cache_that_cannot_be_written_costs_a_warning_not_the_network(monkeypatch):
    monkeypatch.setitem(RECIPES, "tiny@digits", replace(RECIPES["tiny@digits"], train=64, epochs=1, floor=0.0))
    with pytest.warns(UserWarning, match="'tiny@digits' could not be kept"):
        network = load_network("tiny@digits", cache="/proc/limen", device="cpu", progress=False)
    assert len(network.classes) == 10


@pytest.mark.long
def test_resnet_reads_at_least_95_percent_of_the_digits(tmp_path):
    network = load_network("resnet@digits", cache=tmp_path, device="cpu", progress=False)
    assert agreement(network, load_images("digits")).mean() >= 0.95


@pytest.mark.long
def test_biased_network_follows_the_plant_and_not_the_animal(tmp_path):
    network = load_network("resnet@scenes_biased", cache=tmp_path, device="cpu", progress=False)
    assert agreement(network, load_images("scenes_biased", "test")).mean() > 0.95
    study = load_images("scenes_biased", "study")
    right, conflict = agreement(network, study), np.array(study.groups) == "conflict"
    assert right[~conflict].mean() > 0.95
    assert (~right[conflict]).mean() > 0.85


def test_names_are_listed():
    names = network_names()
    assert {"resnet@digits", "tiny@digits", "untrained@scenes"} <= set(names)
    assert {"timm:NAME", "torchvision:NAME", "pt2:NAME", "module:function[:checkpoint]"} <= set(names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet@digit", "unknown name 'resnet@digit'.*did you mean 'resnet@digits'"),
        ("tim:resnet18", "no module 'tim'.*did you mean 'timm:resnet18'"),
        ("nowhere_at_all:build", "no module 'nowhere_at_all' in the working directory or on the path"),
        ("nowhere.py:build", "nowhere.py: no such file"),
        (":build", "given no module"),
        ("json:", "given no function"),
        ("json:lods", "function: unknown name 'lods'.*did you mean 'loads'"),
        ("pt2:absent.pt2", "network 'pt2:absent.pt2': no such file"),
    ],
)
def test_a_name_that_cannot_be_loaded_is_told_in_one_sentence(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LimenError, match=said) as error:
        load_network(name, progress=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prefix", ["timm", "torchvision"])
def test_a_missing_extra_names_its_install_line(prefix):
    if importlib.util.find_spec(prefix) is not None:
        pytest.skip(f"{prefix} is installed")
    with pytest.raises(LimenError, match=rf"'{prefix}' is not installed; pip install 'limen\[models\]' brings it"):
        load_network(f"{prefix}:resnet18")


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """A working directory with a module of one's own and a checkpoint that fits."""
    (tmp_path / "my_nets_under_test.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "SIZE = 8\n"
        "def build():\n"
        "    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 2))\n"
        "    module.classes, module.size, module.mean = ['ant', 'bee'], SIZE, [0.5, 0.5, 0.5]\n"
        "    return module\n"
        "def number():\n"
        "    return 3\n"
    )
    state = {"1.weight": torch.full((2, 192), 0.25), "1.bias": torch.tensor([1.0, 2.0])}
    save_file(state, tmp_path / "fits.safetensors")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "wrapped.pt")
    save_file({**state, "1.weight": torch.zeros(2, 10)}, tmp_path / "narrow.safetensors")
    save_file({"1.bias": state["1.bias"]}, tmp_path / "partial.safetensors")
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "fits.safetensors").read_bytes()[:100])
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04")
    torch.save(nn.Linear(1, 1), tmp_path / "whole.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("my_nets_under_test", None)


@pytest.mark.parametrize("home", ["my_nets_under_test", "my_nets_under_test.py"])
@pytest.mark.parametrize("checkpoint", ["fits.safetensors", "wrapped.pt"])
def test_own_function_and_checkpoint_make_a_network(own_code, home, checkpoint):
    network = load_network(f"{home}:build:{checkpoint}")
    assert network.classes == ("ant", "bee")
    assert network.size == 8
    assert network.mean == (0.5, 0.5, 0.5)
    assert network.std == (1.0, 1.0, 1.0)
    assert network.module[1].bias.tolist() == [1.0, 2.0]
    assert str(own_code) not in sys.path


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("biuld", "function: unknown name 'biuld'.*did you mean 'build'"),
        ("number", r"number\(\) returned a int, allowed is an nn.Module or a Network"),
        ("build:narrow.safetensors", r"'1.weight' is \(2, 10\) where the network has \(2, 192\)"),
        ("build:partial.safetensors", "'1.weight' is missing"),
        ("build:torn.safetensors", "torn.safetensors: not a whole safetensors file"),
        ("build:torn.pt", "torn.pt: cannot be read as plain tensors"),
        ("build:whole.pt", "whole.pt: cannot be read as plain tensors"),
        ("build:list.pt", "list.pt: holds no state dict"),
        ("build:absent.pt", "absent.pt: no such file"),
        ("build:weights.onnx", "given a '.onnx' file, allowed are .safetensors"),
    ],
)
def test_own_code_with_a_fault_is_told_in_one_sentence(own_code, rest, said):
    with pytest.raises(LimenError, match=said) as error:
        load_network(f"my_nets_under_test:{rest}")
    assert "\n" not in str(error.value)


def test_own_module_that_fails_to_import_says_why(own_code):
    (own_code / "broken_under_test.py").write_text("import a_library_nobody_has\n")
    with pytest.raises(LimenError, match="importing 'broken_under_test' failed.*a_library_nobody_has"):
        load_network("broken_under_test:build")


def test_weights_that_do_not_fit_change_nothing():
    module = small_module()
    before = module.head.bias.clone()
    state = {**module.state_dict(), "head.bias": torch.ones(3), "head.extra": torch.ones(1)}
    with pytest.raises(
        LimenError, match="here: the weights do not fit the network: 'head.extra' is not in the network"
    ):
        fill(module, state, "here")
    assert torch.equal(module.head.bias, before)


def test_weights_survive_a_file(tmp_path):
    module = small_module()
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    state = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


def export(module, path, batch):
    options = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=4096)},)} if batch else {}
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(2, 3, 32, 32),), **options), path)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_exported_program_gives_the_modules_logits_and_keeps_its_layers(tmp_path):
    module = small_module()
    export(module, tmp_path / "net.pt2", batch=True)
    network = load_network(f"pt2:{tmp_path / 'net.pt2'}")
    assert network.classes == ("class 0", "class 1", "class 2")
    assert network.size == 32
    engine = Engine(network, device="cpu", precision="fp32")
    inputs = engine.inputs(load_images("digits", n=5).pictures)
    torch.testing.assert_close(engine.scores(inputs), module(inputs).detach())
    below = module.stage3(module.stage2(module.stage1(module.stem(inputs))))
    torch.testing.assert_close(engine.tap(inputs, "stage4"), module.stage4(below).detach())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_exported_program_can_be_drawn_anew_and_rehearsed(tmp_path):
    export(small_module(), tmp_path / "net.pt2", batch=True)
    engine = Engine(load_network(f"pt2:{tmp_path / 'net.pt2'}"), device="cpu", precision="fp32")
    inputs = engine.inputs(load_images("digits", n=2).pictures)
    before = engine.scores(inputs).clone()
    assert layers_from_the_top(engine, inputs)[0] == "head"
    other = engine.beside(reinitialised(engine.network, None, engine.draws(0)))
    assert (other.scores(inputs) - before).abs().max() > 0.01
    assert torch.equal(engine.network.module(inputs), before)
    assert engine.rehearsal().scores(inputs).shape == (2, 3)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_exported_for_one_batch_size_is_refused(tmp_path):
    export(small_module(), tmp_path / "fixed.pt2", batch=False)
    with pytest.raises(LimenError, match="exported for batches of 2 only; allowed is a free first dimension"):
        load_network(f"pt2:{tmp_path / 'fixed.pt2'}")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_program_that_is_no_classifier_is_refused(tmp_path):
    torch.export.save(torch.export.export(nn.ReLU(), (torch.zeros(2, 5),)), tmp_path / "relu.pt2")
    with pytest.raises(LimenError, match=r"maps \(2, 5\) to \(2, 5\), allowed is one input \(N, 3, S, S\)"):
        load_network(f"pt2:{tmp_path / 'relu.pt2'}")


def test_a_file_that_is_no_program_is_refused(tmp_path):
    (tmp_path / "junk.pt2").write_bytes(b"junk")
    with pytest.raises(LimenError, match="not a program of torch.export") as error:
        load_network(f"pt2:{tmp_path / 'junk.pt2'}")
    assert "\n" not in str(error.value)


@pytest.fixture
def fake_timm(monkeypatch):
    """A stand-in for timm: one network of three classes, whose published weights cannot be reached."""

    def create_model(name, pretrained):
        if pretrained:
            raise ConnectionError("no route\nto host")
        module = small_module()
        module.num_classes = 3
        return module

    library = types.ModuleType("timm")
    library.__version__ = "1.0"
    library.__path__ = []
    library.is_model = lambda name: name == "small"
    library.list_models = lambda: ["small", "large"]
    library.create_model = create_model
    data = types.ModuleType("timm.data")
    data.resolve_model_data_config = lambda module: {
        "input_size": (3, 32, 32),
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.2, 0.2),
    }
    monkeypatch.setitem(sys.modules, "timm", library)
    monkeypatch.setitem(sys.modules, "timm.data", data)


def test_timm_network_with_a_checkpoint_takes_its_own_preprocessing(fake_timm, tmp_path):
    state = {name: torch.ones_like(value) for name, value in small_module().state_dict().items()}
    save_file(state, tmp_path / "ones.safetensors")
    network = load_network(f"timm:small.tag?{tmp_path / 'ones.safetensors'}")
    assert network.module.head.bias.tolist() == [1.0, 1.0, 1.0]
    assert (network.size, network.mean, network.std) == (32, (0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
    assert network.classes == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("timm:smal", "timm 1.0 has no 'smal'.*did you mean 'timm:small'"),
        ("timm:small", r"published weights cannot be had \(ConnectionError: no route\); 'timm:small\?FILE' takes"),
        ("timm:small?absent.pt", "absent.pt: no such file"),
    ],
)
def test_timm_faults_are_one_sentence(fake_timm, name, said):
    with pytest.raises(LimenError, match=said) as error:
        load_network(name)
    assert "\n" not in str(error.value)


@pytest.fixture
def half_torchvision(tmp_path, monkeypatch):
    """A stand-in for a torchvision that, beside a CPU-only torch, imports only once its operators have schemas."""
    package = tmp_path / "site" / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import torch\n"
        "for name in ('nms', 'qnms'):\n"
        "    if not hasattr(torch.ops.torchvision, name):\n"
        "        raise RuntimeError(f'operator torchvision::{name} does not exist')\n"
    )
    (package / "models.py").write_text(
        "from types import SimpleNamespace\n"
        "from torch import nn\n"
        "crop = SimpleNamespace(crop_size=[32], mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 3.0])\n"
        "best = SimpleNamespace(transforms=lambda: crop, meta={'categories': ['ant', 'bee']})\n"
        "def list_models(module):\n"
        "    return ['small', 'large']\n"
        "def get_model_weights(name):\n"
        "    return SimpleNamespace(DEFAULT=best)\n"
        "def get_model(name, weights):\n"
        "    if weights is not None:\n"
        "        raise OSError('offline')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))\n"
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(package.parent))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]


def test_torchvision_without_its_operators_is_imported_all_the_same(half_torchvision):
    path = half_torchvision / "w.safetensors"
    save_file({"1.weight": torch.ones(2, 12), "1.bias": torch.zeros(2)}, path)
    network = load_network(f"torchvision:small?{path}")
    assert (network.size, network.mean, network.std) == (32, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert network.classes == ("ant", "bee")
    with pytest.raises(LimenError, match="did you mean 'small'"):
        load_network("torchvision:smal")
    with pytest.raises(LimenError, match=r"published weights cannot be had \(OSError: offline\)"):
        load_network("torchvision:small")
