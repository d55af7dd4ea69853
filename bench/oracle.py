"""A network as the oracle of reveal trials: a process on this machine that scores the pictures it is sent."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .engine import Engine
from .registry import LimenError

MOST = 64
"""Pictures in one request."""
LARGEST = 64 * 1024 * 1024
"""Bytes of a request."""
LARGEST_PICTURE = 4096 * 4096
HOST = "127.0.0.1"


class BadQuestion(ValueError):
    """A request that is no question; the message is one sentence."""


class Oracle:
    """Scores PNG pictures with one network, one batch at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()

    @property
    def classes(self) -> list[str]:
        """Names of the network's classes."""
        return list(self._engine.network.classes)

    def answer(self, body: bytes) -> dict[str, Any]:
        """Turn `{"pictures": [base64 PNG, ...]}` into `{"classes": [...], "scores": [[probability, ...], ...]}`.

        Raises
        ------
        BadQuestion
            If the body is anything else.
        """
        pictures = read_pictures(body)
        scores: list[list[float]] = [[] for _ in pictures]
        shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, picture in enumerate(pictures):
            shapes[picture.shape].append(index)
        with self._lock:
            for indices in shapes.values():
                batch = self._engine.inputs(np.stack([pictures[index] for index in indices]))
                found = self._engine.numpy(self._engine.scores(batch, score="probability"))
                for index, row in zip(indices, found, strict=True):
                    scores[index] = [float(value) for value in row]
        return {"classes": self.classes, "scores": scores}


def read_pictures(body: bytes) -> list[np.ndarray]:
    """Read the pictures of a request as uint8 (H, W, 3).

    Raises
    ------
    BadQuestion
        If the body is not `{"pictures": [base64 PNG, ...]}` with 1 to 64 pictures.
    """
    try:
        encoded = json.loads(body)["pictures"]
        if not isinstance(encoded, list) or not 1 <= len(encoded) <= MOST:
            raise BadQuestion(f"1 to {MOST} pictures are allowed")
        return [_picture(base64.b64decode(text, validate=True)) for text in encoded]
    except BadQuestion:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadQuestion('the body is not {"pictures": [base64 PNG, ...]}') from None


def _picture(png: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as opened:
            if opened.width * opened.height > LARGEST_PICTURE:
                raise BadQuestion("a picture has more than 4096 x 4096 pixels")
            return np.asarray(opened.convert("RGB"), dtype=np.uint8)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        raise BadQuestion("a picture is no PNG") from None


class _Handler(BaseHTTPRequestHandler):
    """`POST /` asks, `GET /` names the network's classes."""

    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        self._send(200, {"network": self.server.name, "classes": self.server.oracle.classes})

    def do_POST(self) -> None:
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            length = -1
        if not 0 < length <= LARGEST:
            return self._send(413, {"error": f"the body must have 1 to {LARGEST} bytes and say so"})
        try:
            answer = self.server.oracle.answer(self.rfile.read(length))
        except BadQuestion as error:
            return self._send(400, {"error": str(error)})
        return self._send(200, answer)

    def _send(self, status: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep no log: what players do is none of this process's business."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, oracle: Oracle, name: str, port: int) -> None:
        self.oracle, self.name = oracle, name
        super().__init__((HOST, port), _Handler)


def oracle_server(engine: Engine, *, port: int = 0) -> ThreadingHTTPServer:
    """Return a server on the loopback address that is ready to `serve_forever`; port 0 takes a free one.

    Raises
    ------
    LimenError
        If the port is taken.
    """
    try:
        return _Server(Oracle(engine), engine.network.name, port)
    except OSError as error:
        raise LimenError(f"oracle, port {port}: cannot listen there ({error.strerror}).") from None
