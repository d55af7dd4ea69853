"""The folder is the registry."""

from __future__ import annotations

import sys

import pytest

from bench.registry import REGISTRIES, Card, LimenError, MetricCard, Registry, UnknownName, resolve_options

METHOD = '''
from bench.registry import registered

@registered("toy", version=3, citation="arXiv:0000.00000")
def {name}(data, *, count: int = 4, rule: str = "mean", space=None):
    """Do the toy thing."""
    return count
'''


@pytest.fixture
def toys(tmp_path, monkeypatch):
    folder = tmp_path / "toy_rooms"
    (folder / "deep").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "_hidden.py").write_text("raise RuntimeError('must not be imported')")
    (folder / "first.py").write_text(METHOD.format(name="first"))
    (folder / "broken.py").write_text("raise RuntimeError('imported though nobody asked')")
    (folder / "deep" / "__init__.py").write_text("")
    (folder / "deep" / "second.py").write_text(METHOD.format(name="second"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Registry("toy", "toy_rooms")
    for name in [name for name in sys.modules if name.startswith("toy_rooms")]:
        del sys.modules[name]


def test_names_are_listed_without_importing(toys):
    assert toys.names() == ["broken", "first", "second"]
    assert not [name for name in sys.modules if name.startswith("toy_rooms.")]


def test_sub_folder_is_the_group(toys):
    assert toys.group("second") == "deep"
    assert toys.group("first") == ""


def test_card_carries_name_and_summary(toys):
    assert toys.card("second") == Card(
        kind="toy", version=3, citation="arXiv:0000.00000", name="second", summary="Do the toy thing."
    )


def test_unknown_name_says_what_there_is_and_the_nearest(toys):
    with pytest.raises(
        UnknownName, match=r"toy: unknown name 'frist'; allowed are broken, first, second; did you mean 'first'\?"
    ):
        toys.load("frist")


def test_a_name_registered_twice_is_an_error(toys, tmp_path):
    (tmp_path / "toy_rooms" / "deep" / "first.py").write_text(METHOD.format(name="first"))
    with pytest.raises(LimenError, match="'first' is registered twice"):
        toys.names()


def test_a_file_without_its_function_is_an_error(toys, tmp_path):
    (tmp_path / "toy_rooms" / "third.py").write_text("x = 1")
    with pytest.raises(LimenError, match="defines no function 'third' with a card"):
        toys.load("third")


def test_options_are_checked_against_the_signature(toys):
    first = toys.load("first")
    assert resolve_options(first, {"count": 9}, "here") == {"count": 9, "rule": "mean"}
    with pytest.raises(
        UnknownName, match=r"here, option: unknown name 'cuont'; allowed are count, rule; did you mean 'count'"
    ):
        resolve_options(first, {"cuont": 9}, "here")
    with pytest.raises(LimenError, match="here, option 'count': given 'many'"):
        resolve_options(first, {"count": "many"}, "here")
    with pytest.raises(UnknownName, match="unknown name 'space'"):
        resolve_options(first, {"space": 1}, "here")


ALL = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry.names()]


@pytest.mark.parametrize(("kind", "name"), ALL, ids=[f"{kind}-{name}" for kind, name in ALL])
def test_every_registered_function_tells_what_it_is(kind, name):
    card = REGISTRIES[kind].card(name)
    assert card.name == name
    assert card.kind == kind
    assert card.version >= 1
    assert card.citation
    assert card.cost
    assert card.summary.endswith(".")
    if isinstance(card, MetricCard):
        assert card.null
        assert card.bounds[0] < card.bounds[1]
        assert REGISTRIES[kind].group(name)
