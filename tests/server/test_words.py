"""The words of the participant's pages: whole lists, a study's own words, and refusals in a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.registry import LimenError
from psychophysics_server.study.frozen import FrozenStudy
from stimuli.interface import check_words, is_plural, languages, places, word_list, words_of
from stimuli.records import StudyFile

SOURCES = Path(__file__).parents[2] / "psychophysics_server" / "frontend" / "src"


def study(**changes: Any) -> StudyFile:
    facts = {"study": "small", "version": 1, "protocol": "utility", "title": "T", "run": "demo"}
    return StudyFile.model_validate(facts | {"conditions": ("baseline", "other")} | changes)


def fault(**changes: Any) -> str:
    with pytest.raises(LimenError) as raised:
        check_words(study(**changes), where="study.yaml")
    return str(raised.value)


@pytest.mark.parametrize("language", languages())
def test_every_list_has_the_paths_and_placeholders_of_the_english_one(language: str) -> None:
    english, other = word_list("en"), word_list(language)
    assert set(english) <= set(other)
    assert all(is_plural(path) for path in set(other) - set(english))
    assert {path: places(other[path]) for path in english if not is_plural(path)} == {
        path: places(text) for path, text in english.items() if not is_plural(path)
    }
    assert all(text.strip() for text in other.values())


def test_there_is_more_than_one_language_and_they_differ() -> None:
    assert {"en", "de"} <= set(languages())
    same = [path for path, text in word_list("en").items() if word_list("de")[path] == text]
    assert all(re.fullmatch(r"[\W_]*(\{\w+\}[\W_]*)*", word_list("en")[path]) for path in same)


@pytest.mark.parametrize("section", ["forcedChoice", "choice", "confidence", "entry", "feedback", "alt", "position"])
def test_every_word_of_the_trials_is_used_by_one(section: str) -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("*.ts")))
    leaves = [path.removeprefix(f"{section}.") for path in word_list("en") if path.startswith(f"{section}.")]
    taken = set(re.findall(rf"\bwords\.{section}\.(\w+)", source))
    for names in re.findall(rf"\{{([\w, ]+)\}} = words\.{section}\b", source):
        taken |= {name.strip() for name in names.split(",")}
    assert leaves
    assert {leaf.partition(".")[0] for leaf in leaves} == taken


def test_own_words_replace_the_lists() -> None:
    words = words_of(study(language="de", words={"test.heading": "Was sagt das Netz?"}))
    assert words["test"]["heading"] == "Was sagt das Netz?"
    assert words["next"] == "Weiter"


def test_a_regional_language_takes_the_words_of_its_language() -> None:
    assert words_of(study(language="de-AT"))["next"] == "Weiter"


def test_a_plural_form_that_english_lacks_may_be_given() -> None:
    check_words(study(words={"saving.left.few": "{count} zbývají"}), where="study.yaml")


def test_an_unknown_path_is_refused_with_the_nearest_one() -> None:
    said = fault(words={"test.headding": "What?"})
    assert said.startswith("study.yaml, key 'words': unknown name 'test.headding'; allowed are test.title")
    assert said.endswith("did you mean 'test.heading'?")


def test_a_place_that_is_not_filled_is_refused() -> None:
    said = fault(words={"progress": "{done} von {total}"})
    assert "'words.progress', placeholder: unknown name 'total'; allowed are count, done" in said


def test_an_empty_text_is_refused() -> None:
    assert "key 'words.next': nothing was given" in fault(words={"next": " "})


def test_a_language_without_a_list_is_refused_unless_every_word_is_given() -> None:
    assert "there is no word list of 'fr'; allowed are de, en" in fault(language="fr")
    check_words(study(language="fr", words=dict(word_list("de"))), where="study.yaml")


def test_the_server_refuses_a_stimulus_set_with_an_unknown_path(build: Callable[..., FrozenStudy]) -> None:
    with pytest.raises(LimenError, match=r"study\.json, key 'words': unknown name 'nxt'"):
        build(words={"nxt": "On"})


def test_the_page_and_the_session_hand_over_the_studys_words(
    build: Callable[..., FrozenStudy], launch: Callable[..., Any]
) -> None:
    running = launch(build(language="de", words={"next": 'Weiter <"&'}))
    held = running.person().get().json
    assert held["language"] == "de"
    assert held["words"]["next"] == 'Weiter <"&'
    answer = running.app.test_client().get("/study/tiny-study/")
    if answer.status_code == 503:
        pytest.skip("the front-end is not built")
    assert '<html lang="de">' in answer.text
    (words,) = re.findall(r'data-words="([^"]*)"', answer.text)
    unescaped = words.replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&#39;", "'")
    assert json.loads(unescaped.replace("&amp;", "&")) == held["words"]
