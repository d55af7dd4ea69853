"""The export as a download: written into a folder of its own, packed, sent, and gone."""

from __future__ import annotations

import os
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from flask import Response, send_file

from ..export.folder import export
from ..storage.audit import note
from ..web.refusal import Refusal
from ..web.server import Server
from .accounts import Who

_ONE_AT_A_TIME = threading.Lock()


def zipped(running: Server, who: Who, *, sources: Sequence[str]) -> Response:
    """Write an export and send it as one ZIP file.

    Raises
    ------
    Refusal
        If another export is being written: answers of participants come first.
    LimenError
        If a row would give a person away; then nothing is sent.
    """
    study = running.study.file
    name = f"{study.study}-v{study.version}"
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise Refusal(503, "busy", "Another export is being written. Try again in a moment.")
    try:
        response = packed(
            name,
            lambda folder: export(
                running.database, running.study, folder, sources=sources, stale_s=running.config.stale_s
            ),
        )
    finally:
        _ONE_AT_A_TIME.release()
    told = ", ".join(sources)
    running.database.write(lambda connection: note(connection, who.name, "export", name, told))
    return response


def packed(name: str, write: Callable[[Path], object]) -> Response:
    """Let a folder be written somewhere that goes away, and send it as one ZIP file.

    Parameters
    ----------
    name
        Of the folder and the file; never from a request.
    write
        Writes the folder, which is not there yet.
    """
    with tempfile.TemporaryDirectory(prefix="limen-download-") as place:
        target = Path(place) / name
        write(target)
        stream = _pack(target, Path(place) / "packed.zip")
    response = send_file(stream, mimetype="application/zip", as_attachment=True, download_name=f"{name}.zip")
    response.content_length = os.fstat(stream.fileno()).st_size
    return response


def _pack(folder: Path, target: Path) -> IO[bytes]:
    """Pack a folder under its own name and return the open file; its path may go while it is being sent."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    return target.open("rb")
