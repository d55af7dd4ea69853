"""The export as a download: written into a folder of its own, packed, sent, and gone."""

from __future__ import annotations

import os
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from flask import Response, send_file

from ..app import Refusal, Server
from ..export import export
from .accounts import Who
from .audit import note

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
        with tempfile.TemporaryDirectory(prefix="limen-export-") as folder:
            target = Path(folder) / name
            export(running.database, running.study, target, sources=sources, stale_s=running.config.stale_s)
            packed = pack(target, Path(folder) / "packed.zip")
    finally:
        _ONE_AT_A_TIME.release()
    told = ", ".join(sources)
    running.database.write(lambda connection: note(connection, who.name, "export", name, told))
    response = send_file(packed, mimetype="application/zip", as_attachment=True, download_name=f"{name}.zip")
    response.content_length = os.fstat(packed.fileno()).st_size
    return response


def pack(folder: Path, target: Path) -> IO[bytes]:
    """Pack a folder under its own name and return the open file; the path may go while it is being sent."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
    return target.open("rb")
