"""A report's page as PDF, printed by the Chromium that is installed; nothing is downloaded."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.registry import LimenError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
SECONDS = 120
"""How long printing may take."""


def find_browser() -> str | None:
    """Return the path of a Chromium or of one of its kin, None where none is on the PATH."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def print_pdf(page: str | Path, pdf: str | Path | None = None) -> Path:
    """Print a page to a PDF beside it.

    Parameters
    ----------
    page : path of `report.html`
    pdf : path to write; the page's own name with `.pdf` by default

    Raises
    ------
    LimenError
        If the PDF exists, there is no browser, or the browser does not print.
    """
    page = Path(page).resolve()
    target = Path(pdf).resolve() if pdf is not None else page.with_suffix(".pdf")
    if target.exists():
        raise LimenError(f"{target}: already exists, and a report overwrites nothing.")
    if not page.is_file():
        raise LimenError(f"{page}: there is no such page to print.")
    browser = find_browser()
    if browser is None:
        raise LimenError(
            f"--pdf: no browser to print with; looked for {', '.join(BROWSERS)} on the PATH (Debian: apt-get install "
            f"chromium). The page itself is written: {page}"
        )
    with tempfile.TemporaryDirectory(prefix="limen-pdf-") as profile:
        _run(browser, page, target, Path(profile))
    if not target.is_file() or not target.read_bytes().startswith(b"%PDF"):
        target.unlink(missing_ok=True)
        raise LimenError(f"--pdf: {browser} wrote no PDF of {page}; open the page and print it by hand.")
    return target


def _run(browser: str, page: Path, target: Path, profile: Path) -> None:
    command = [
        browser, "--headless=new", "--disable-gpu", "--no-first-run", "--no-pdf-header-footer",
        # The page is a file of our own making that asks for nothing, so it may be printed in containers without a sandbox.
        "--no-sandbox", f"--user-data-dir={profile}", f"--print-to-pdf={target}", page.as_uri(),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise LimenError(f"--pdf: {browser} did not print {page} within {SECONDS} s.") from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise LimenError(f"--pdf: {browser} could not print {page}: {_last_line(error)}") from None


def _last_line(error: Exception) -> str:
    lines = bytes(getattr(error, "stderr", b"") or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else str(error)
