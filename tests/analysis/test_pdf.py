"""A page as PDF: by the browser there is, one sentence where there is none, nothing overwritten."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from analysis import pdf
from bench.registry import LimenError


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<!doctype html><html lang=en><title>x</title><h1>One page</h1></html>", encoding="utf-8")
    return path


def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a browser of our own on the PATH, the only one there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    browser = folder / "chromium"
    browser.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    browser.chmod(browser.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setattr(pdf, "BROWSERS", ("chromium",))
    return browser


def test_without_a_browser_one_sentence_says_what_was_looked_for(page, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        LimenError, match=r"no browser to print with; looked for chromium, .*The page itself is written"
    ):
        pdf.print_pdf(page)


def test_nothing_is_overwritten(page):
    page.with_suffix(".pdf").write_bytes(b"mine")
    with pytest.raises(LimenError, match="already exists"):
        pdf.print_pdf(page)
    assert page.with_suffix(".pdf").read_bytes() == b"mine"


def test_a_browser_that_fails_is_quoted(page, tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "echo 'cannot open display' >&2; exit 3")
    with pytest.raises(LimenError, match="cannot open display"):
        pdf.print_pdf(page)


def test_what_is_no_pdf_is_not_left_behind(page, tmp_path, monkeypatch):
    fake(
        tmp_path,
        monkeypatch,
        'for one in "$@"; do case $one in --print-to-pdf=*) echo no > "${one#--print-to-pdf=}";; esac; done',
    )
    with pytest.raises(LimenError, match="wrote no PDF"):
        pdf.print_pdf(page)
    assert not page.with_suffix(".pdf").exists()


@pytest.mark.long
@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="BROWSER TESTS NOT RUN: no Chromium on the PATH")
def test_chromium_prints_the_page(page, tmp_path):
    made = pdf.print_pdf(page, tmp_path / "out.pdf")
    assert made == tmp_path / "out.pdf"
    assert made.read_bytes().startswith(b"%PDF")
