"""The oracle of reveal trials: a network that is asked what it recognises in the part of a picture a player has uncovered."""

from __future__ import annotations

import base64
import http.client
import json
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from bench.images import encode_png, read_picture
from bench.registry import LimenError
from stimuli.masks import masked_picture, revealed_mask

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LARGEST_ANSWER = 64 * 1024 * 1024
SHOWN = 5
"""Classes told to the browser."""


class OracleSilent(Exception):
    """The oracle gave no answer that can be used; the round goes on without one."""


@dataclass(frozen=True, kw_only=True)
class OracleAnswer:
    """What the network recognises.

    Attributes
    ----------
    top : (class, score), best first
    rank : of the true class, 1 is best; None if the network does not know the class
    won : whether the round is won
    """

    top: tuple[tuple[str, float], ...]
    rank: int | None
    won: bool


class Oracle(Protocol):
    """Whoever can be asked."""

    def ask(self, picture: Path, boxes: Sequence[Sequence[float]], *, box_px: int, word: str) -> OracleAnswer:
        """Say what is recognised in the revealed part of a picture.

        Parameters
        ----------
        picture
            PNG file of the stimulus set.
        boxes
            Centres (x, y) in image pixels.
        box_px
            Side of a box.
        word
            The true class.

        Raises
        ------
        OracleSilent
            If there is no answer in time.
        """
        ...


@dataclass(frozen=True)
class _Waiting:
    png: bytes
    future: Future[tuple[Sequence[str], Sequence[float]]]
    until: float


class HttpOracle:
    """Asks a process on this machine (`limen bench oracle`); questions that come together go in one request.

    Parameters
    ----------
    url
        `http://127.0.0.1:PORT`; another machine is refused, since pictures of a running study leave this one by it.
    top
        The round is won when the true class is among so many.
    timeout_s
        Longest time a question waits.
    window_ms
        How long a first question waits for others.
    batch
        Most pictures in one request.

    Raises
    ------
    LimenError
        If the address is none of this machine.
    """

    def __init__(
        self, url: str, *, top: int = 5, timeout_s: float = 1.5, window_ms: float = 5.0, batch: int = 32
    ) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme != "http" or parts.hostname not in LOOPBACK or port is None:
            raise LimenError(f"oracle '{url}': not an address of this machine; allowed is http://127.0.0.1:PORT.")
        self._host, self._port = str(parts.hostname), port
        self._top, self._timeout, self._window, self._batch = top, timeout_s, window_ms / 1000, batch
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(1024)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def ask(self, picture: Path, boxes: Sequence[Sequence[float]], *, box_px: int, word: str) -> OracleAnswer:
        """Mask the picture, wait for the batch it goes with, and rank the true class."""
        pixels = read_picture(picture)
        height, width = pixels.shape[:2]
        mask = revealed_mask([(0.0, *box) for box in boxes], (width, height), box_px)
        png = encode_png(masked_picture(pixels, mask))
        classes, scores = self._answer(png)
        order = sorted(range(len(classes)), key=lambda index: -scores[index])
        ranked = [classes[index] for index in order]
        rank = ranked.index(word) + 1 if word in ranked else None
        top = tuple((classes[index], float(scores[index])) for index in order[:SHOWN])
        return OracleAnswer(top=top, rank=rank, won=rank is not None and rank <= self._top)

    def _answer(self, png: bytes) -> tuple[Sequence[str], Sequence[float]]:
        question = _Waiting(png, Future(), time.monotonic() + self._timeout)
        self._begin()
        try:
            self._waiting.put_nowait(question)
            return question.future.result(self._timeout)
        except (queue.Full, Late):
            raise OracleSilent("no answer in time") from None

    def _begin(self) -> None:
        """Start the thread when it is first needed, so that a forked worker has its own."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="limen-oracle", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, last = self._gather(first)
            live = [question for question in batch if time.monotonic() < question.until]
            try:
                answers = self._post([question.png for question in live]) if live else []
            except Exception as error:
                for question in live:
                    question.future.set_exception(OracleSilent(type(error).__name__))
            else:
                for question, answer in zip(live, answers, strict=True):
                    question.future.set_result(answer)
            if last:
                return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch, end = [first], time.monotonic() + self._window
        while len(batch) < self._batch:
            try:
                more = self._waiting.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            if more is None:
                return batch, True
            batch.append(more)
        return batch, False

    def _post(self, pictures: list[bytes]) -> list[tuple[list[str], list[float]]]:
        body = json.dumps({"pictures": [base64.b64encode(png).decode() for png in pictures]})
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request("POST", "/", body=body, headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise OracleSilent(f"status {response.status}")
            return read_answers(json.loads(response.read(LARGEST_ANSWER)), len(pictures))
        finally:
            connection.close()


def read_answers(said: Any, count: int) -> list[tuple[list[str], list[float]]]:
    """Read `{"classes": [...], "scores": [[...], ...]}`: one row of scores a picture, one score a class.

    Raises
    ------
    OracleSilent
        If it is anything else.
    """
    try:
        classes = [str(name) for name in said["classes"]]
        rows = [[float(score) for score in row] for row in said["scores"]]
    except (TypeError, KeyError, ValueError):
        raise OracleSilent("not an answer") from None
    if len(rows) != count or any(len(row) != len(classes) for row in rows):
        raise OracleSilent("not an answer for each picture")
    return [(classes, row) for row in rows]
