"""Regenerate the README's leaderboard and pictures from a finished demo: `make pictures` (after `make demo`)."""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from PIL import Image

from analysis.demo import PLAN, STUDY, free_port, serving
from bench.report import find_run, print_leaderboard

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
START, END = "<!-- leaderboard: written by docs/pictures.py -->", "<!-- end of leaderboard -->"


def small(source: Path, target: Path, width: int) -> None:
    """Write a picture at most `width` pixels wide, with few colours."""
    picture = Image.open(source).convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    picture.quantize(192, dither=Image.Dither.NONE).save(target, "PNG", optimize=True)


def page(source: Path, target: Path, *, top: int = 0, height: int = 800) -> None:
    """Photograph a report in Chromium, 1280 pixels wide, from `top` on, and keep it small."""
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium")
    if browser is None:
        raise SystemExit("pictures of reports need Chromium on the PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown = chromium.new_page(viewport={"width": 1280, "height": height})
        shown.goto(source.resolve().as_uri())
        photograph = Path(folder) / "page.png"
        shown.screenshot(path=photograph, full_page=True, clip={"x": 0, "y": top, "width": 1280, "height": height})
        chromium.close()
        small(photograph, target, 900)


def leaderboard(demo: Path) -> None:
    """Put the demo's leaderboard between the README's two marks."""
    table = find_run(ROOT / "configs" / PLAN, demo / "store").rows("table.parquet")
    text = io.StringIO()
    with redirect_stdout(text):
        print_leaderboard(table, wide=False)
    lines = "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{START}\n```\n{lines}\n```\n{END}{after}", encoding="utf-8")


def trial(demo: Path) -> None:
    """Serve the demo's study, walk through it in Chromium, and keep a training and a test trial."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        study = str(ROOT / "configs" / STUDY)
        store, database = str(demo / "store"), str(place / "pictures.db")
        serve = ["study", "serve", study, "--store", store, "--db", database, "--port", str(port), "--dev"]
        name = "utility-demo"
        with serving(serve, port, place):
            url = f"http://127.0.0.1:{port}/study/{name}/?preview=preview&cell=grad_cam-1"
            script = ROOT / "tests" / "server" / "make_screenshots.py"
            subprocess.run([sys.executable, str(script), "--url", url, "-o", str(place)], check=True)
        for picture in ("trial_train", "trial_test"):
            shutil.copyfile(place / f"{picture}.png", IMAGES / f"{picture}.png")


def main() -> None:
    """Read the command line and regenerate everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=ROOT / "out" / "demo", help="output folder of `limen demo`")
    demo = parser.parse_args().demo
    IMAGES.mkdir(parents=True, exist_ok=True)
    leaderboard(demo)
    small(demo / "bench-report" / "figures" / "explanations.png", IMAGES / "explanations.png", 900)
    small(demo / "study-report" / "figures" / "accuracy.png", IMAGES / "accuracy.png", 1100)
    page(demo / "study-report" / "report.html", IMAGES / "report_study.png", height=1000)
    page(demo / "bench-report" / "report.html", IMAGES / "report_bench.png", height=1000)
    trial(demo)


if __name__ == "__main__":
    main()
