"""Where the credit lies: closed forms, and the known shortcut of a network trained on biased scenes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench import api, zoo
from bench.engine import Engine
from bench.registry import METRICS, LimenError


@pytest.fixture
def engine():
    return Engine(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 2)), device="cpu")


IMAGES = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
LEFT = np.zeros((2, 8, 8), dtype=bool)
LEFT[:, :, :4] = True


@pytest.mark.parametrize(("columns", "expected"), [(slice(0, 4), 1.0), (slice(4, 8), 0.0), (slice(2, 6), 0.5)])
def test_all_none_and_half_of_the_credit_inside(engine, columns, expected):
    maps = -torch.ones(2, 1, 8, 8)
    maps[..., columns] = 2.0
    scored = api.score("energy_in_mask", engine, IMAGES, maps, masks={"object": LEFT})
    np.testing.assert_allclose(scored.values, expected)
    np.testing.assert_allclose(scored.extra["area"], 0.5)


def test_random_maps_get_the_region_s_share_of_the_area(engine):
    floor = api.null("energy_in_mask", engine, IMAGES, null_draws=200, masks={"object": LEFT})
    np.testing.assert_allclose(floor, 0.5, atol=0.02)


def test_a_region_the_set_does_not_know_is_named(engine):
    with pytest.raises(LimenError, match=r"unknown name 'objct'; allowed are object; did you mean 'object'\?"):
        api.score("energy_in_mask", engine, IMAGES, torch.ones(2, 1, 8, 8), masks={"object": LEFT}, mask="objct")


def test_no_positive_credit_and_an_empty_region_have_no_value(engine):
    maps = torch.ones(2, 1, 8, 8)
    maps[0] = -1
    empty = LEFT.copy()
    empty[1] = False
    assert np.isnan(api.score("energy_in_mask", engine, IMAGES, maps, masks={"object": empty}).values).all()


METHODS = ["saliency", "integrated_gradients", "grad_cam", "occlusion", "rise", "sobol"]
CASES = [(method, "cue") for method in METHODS] + [
    (method, "background") for method in ("grad_cam", "occlusion", "sobol")
]


@pytest.mark.long
@pytest.mark.parametrize(("method", "region"), CASES)
def test_the_known_shortcut_is_found(method, region, biased_engine, conflict):
    """Beside the other animal's plant, faithful maps put more credit on the plant than a random map does.

    All of the background is asked for only where a map has the scale of a region: gradients of single pixels also
    follow the animal's sharp outline, which is why saliency falls short there.
    """
    options = {"rise": {"masks": 600}, "sobol": {"samples": 8}, "occlusion": {"patch": 8, "stride": 4}}.get(method, {})
    maps = api.explain(method, biased_engine, conflict.pictures, seed=1, **options)
    scored = api.score(
        "energy_in_mask", biased_engine, conflict.pictures, maps, masks=conflict.masks, mask=region, null_draws=20
    )
    assert scored.gain.low > 0, (method, scored.value, scored.null_value)


@pytest.mark.long
@pytest.mark.parametrize("metric", [name for name in METRICS.names() if METRICS.group(name) == "localization"])
@pytest.mark.parametrize("method", ["grad_cam", "saliency", "integrated_gradients"])
def test_every_metric_of_localization_tells_that_the_shortcut_is_found(metric, method, biased_engine, conflict):
    maps = api.explain(method, biased_engine, conflict.pictures)
    scored = api.score(metric, biased_engine, conflict.pictures, maps, masks=conflict.masks, mask="cue")
    assert scored.gain.low > 0.1, (scored.value, scored.null_value)


@pytest.mark.long
def test_a_map_that_is_blind_to_the_network_does_not_find_the_shortcut_more_than_the_animal(biased_engine, conflict):
    shares = {}
    for method in ("image_gradient", "grad_cam"):
        maps = api.explain(method, biased_engine, conflict.pictures)
        for region in ("cue", "object"):
            scored = api.score(
                "energy_in_mask", biased_engine, conflict.pictures, maps, masks=conflict.masks, mask=region
            )
            shares[method, region] = scored.value.mean
    assert shares["grad_cam", "cue"] > 5 * shares["grad_cam", "object"]
    assert shares["image_gradient", "cue"] < 2 * shares["image_gradient", "object"]


@pytest.fixture(scope="module")
def conflict():
    images = zoo.load_images("scenes_biased", "study", 64)
    return images.take([index for index, group in enumerate(images.groups) if group == "conflict"])


@pytest.fixture(scope="module")
def biased_engine(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    network = zoo.load_network("resnet@scenes_biased", cache=cache, device="cpu", progress=False)
    return Engine(network, device="cpu")
