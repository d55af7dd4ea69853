"""Drawings as the frozen critics see them: of people by condition, of controls made by rule, and of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.registry import LimenError
from stimuli.sketches import category_of, sketch, sketch_id

from ..drawings import strokes_of
from ..measures.drawings import Spread, blots, contours, inks, inks_of_pictures, means, recognised, spreads
from ._drawing_controls import CONTROLS, control

REFERENCES = (1000, 8)
"""First variant that a critic is shown of each category, and how many."""
RECOGNISABILITY, DIVERSITY = "recognisability", "diversity"
Samples = Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Group:
    """Drawings of one condition, control or model.

    Attributes
    ----------
    person, category : int arrays (n,)
    chances : float array (n, C)
        How likely each drawing is taken for each category.
    places : float array (n, d)
        The features its spread is measured in.
    far : float array (n,)
        Distance from the exemplar in these features.
    people : bool
        Whether drawings of one person belong together.
    """

    label: str
    person: np.ndarray
    category: np.ndarray
    chances: np.ndarray
    places: np.ndarray
    far: np.ndarray
    people: bool

    @property
    def own(self) -> np.ndarray:
        """How likely each drawing is taken for its own category."""
        return np.asarray(self.chances[np.arange(len(self.category)), self.category])

    def found(self, quantity: str) -> Spread:
        """Return a quantity of each category."""
        count = self.chances.shape[1]
        if quantity == RECOGNISABILITY:
            return means(self.own, self.category, count)
        return spreads(self.places, self.category, count)


@dataclass(frozen=True)
class Critic:
    """What is frozen: the exemplars, the references of each category, and the numbers of the episodes."""

    items: tuple[str, ...]
    references: np.ndarray
    exemplars: np.ndarray
    ways: int
    episodes: int
    seed: int

    def group(self, label: str, drawn: np.ndarray, category: np.ndarray, person: np.ndarray | None) -> Group:
        """Judge drawings given as ink (n, side, side)."""
        chances = recognised(contours(drawn), self.references, ways=self.ways, episodes=self.episodes, seed=self.seed)
        places = blots(drawn)
        far = np.linalg.norm(places - self.exemplars[category], axis=1)
        alone = np.arange(len(drawn)) if person is None else person
        return Group(label, alone, category, chances, places, far, person is not None)


def make_critic(items: tuple[str, ...], ways: int, episodes: int, seed: int) -> Critic:
    if len(items) < 2:
        raise LimenError(
            f"drawings: given {len(items)} exemplar, allowed are 2 or more, between which a critic chooses."
        )
    first, count = REFERENCES
    shown = [sketch(sketch_id(category_of(item), first + number)) for item in items for number in range(count)]
    references = contours(inks(shown)).reshape(len(items), count, -1)
    return Critic(
        items, references, blots(inks([sketch(item) for item in items])), min(ways, len(items)), episodes, seed
    )


def people_of(trials: pd.DataFrame, critic: Critic) -> Iterator[Group]:
    number = {item: place for place, item in enumerate(critic.items)}
    # The condition that others are compared with is the one with the exemplar in view.
    for name in sorted(trials["condition"].unique(), key=lambda name: (name != "view", name)):
        rows = trials[trials["condition"] == name]
        drawn = inks([strokes_of(row) for row in rows.to_dict("records")])
        person = pd.factorize(rows["participant_id"])[0]
        yield critic.group(str(name), drawn, rows["item_id"].map(number).to_numpy(), np.asarray(person))


def others_of(critic: Critic, samples: Samples, count: int) -> Iterator[Group]:
    for name in CONTROLS:
        drawn = [inks(control(name, item, critic.items, count, critic.seed)) for item in critic.items]
        yield critic.group(f"{name} (control)", np.concatenate(drawn), np.repeat(np.arange(len(drawn)), count), None)
    for name, held in samples.items():
        category = np.concatenate([np.full(len(held[item]), place) for place, item in enumerate(critic.items)])
        drawn = [inks_of_pictures(held[item]) for item in critic.items]
        yield critic.group(name, np.concatenate(drawn), category, None)
