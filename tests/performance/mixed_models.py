"""Time mixed models with crossed effects beside statsmodels and, where R is installed, lme4; write docs/performance.md.

    python tests/performance/mixed_models.py           # minutes; statsmodels takes most of them
    python tests/performance/mixed_models.py --quick

Its part of the page alone is written; the others stay as they are. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

SCRIPT = Path(__file__).resolve()
ROOT = SCRIPT.parents[2]
sys.path[:0] = [str(SCRIPT.parent), str(ROOT)]
BINOMIAL = "correct ~ condition * layer + (1 | participant) + (1 | item) + (0 + condition | item)"
GAUSSIAN = "rt ~ condition * layer + (1 | participant) + (1 | item) + (0 + condition | item)"
SIZES = {"6,400": (160, 60, 40), "19,240": (481, 60, 40), "115,440": (481, 240, 240)}
"""Participants, items, and trials of each participant."""


def trials(people: int, items: int, each: int, seed: int = 0) -> pd.DataFrame:
    """Make crossed trials: condition between participants, three layers between items."""
    draws = np.random.default_rng(seed)
    u, v, s = 0.6 * draws.normal(size=people), 0.7 * draws.normal(size=items), 0.4 * draws.normal(size=items)
    person = np.repeat(np.arange(people), each)
    item = np.concatenate([draws.permutation(np.resize(np.arange(items), each)) for _ in range(people)])
    condition = (person % 2) - 0.5
    linear = 0.65 + 0.5 * condition + 0.2 * (item % 3 == 1) + u[person] + v[item] + s[item] * condition
    correct = (draws.uniform(size=len(item)) < special.expit(linear)).astype(int)
    rt = 6 + 0.2 * linear + 0.4 * draws.normal(size=len(item))
    layer = np.array(["a", "b", "c"])[item % 3]
    return pd.DataFrame(
        {"participant": person, "item": item, "condition": condition, "layer": layer, "correct": correct, "rt": rt}
    )


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Return the median CPU seconds of a call."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return float(np.median(found))


def statsmodels_linear(data: pd.DataFrame) -> None:
    """Fit the same linear model as statsmodels can: one group, crossed effects as variance components."""
    import statsmodels.formula.api as smf

    parts = {"participant": "0 + C(participant)", "item": "0 + C(item)", "slope": "0 + C(item):condition"}
    smf.mixedlm("rt ~ condition * layer", data, groups=np.ones(len(data)), vc_formula=parts).fit(reml=True)


def lme4(data: pd.DataFrame, family: str) -> float | None:
    """Return the CPU seconds of lme4, or None where there is no R with it."""
    if shutil.which("Rscript") is None:
        return None
    formula, call = (BINOMIAL, "glmer(f, d, family = binomial)") if family == "binomial" else (GAUSSIAN, "lmer(f, d)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.csv"
        data.to_csv(path, index=False)
        code = (
            f"suppressMessages(library(lme4)); d <- read.csv('{path}'); d$participant <- factor(d$participant); "
            f"d$item <- factor(d$item); f <- {formula}; t <- system.time({call}); cat(t[['user.self']] + t[['sys.self']])"
        )
        done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else None


def peak(size: str, family: str) -> float:
    """Return the peak resident memory, in MiB, of a process that makes these trials and fits them."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--probe", size, family], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout)["peak"])


def probe(size: str, family: str) -> None:
    """Fit once in this process and print its peak memory; 'none' makes the trials and fits nothing."""
    from analysis.mixed_models import mixedlm

    data = trials(*SIZES[size])
    if family != "none":
        mixedlm(BINOMIAL if family == "binomial" else GAUSSIAN, data, family=family).fit()  # type: ignore[arg-type]
    # Not `getrusage`: its peak includes that of the process this one was forked from.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(json.dumps({"peak": int(status.split("VmHWM:")[1].split()[0]) / 1024}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest size alone, without statsmodels")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "performance.md")
    parser.add_argument("--probe", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.probe:
        probe(*given.probe)
        return 0
    text = section(given.quick)
    print(text)
    if not given.quick:
        from _report import write

        write(given.output, {"mixed models": text})
    return 0


def section(quick: bool) -> str:
    from analysis.mixed_models import mixedlm

    lines = []
    for label in list(SIZES)[: 1 if quick else None]:
        data = trials(*SIZES[label])
        floor = peak(label, "none")
        for family, formula in (("binomial", BINOMIAL), ("gaussian", GAUSSIAN)):
            results = mixedlm(formula, data, family=family).fit()  # type: ignore[arg-type]
            assert results.converged
            ours = seconds(lambda f=formula, k=family, d=data: mixedlm(f, d, family=k).fit(), 3)  # type: ignore[misc]
            theirs, other = "-", lme4(data, family)
            if family == "gaussian" and label == "6,400" and not quick:
                theirs = f"{seconds(lambda d=data: statsmodels_linear(d), 1):.0f}"  # type: ignore[misc]
            grown = peak(label, family) - floor
            lines.append(
                f"| {label} | {'logistic (Laplace)' if family == 'binomial' else 'linear (REML)'} | {ours:.2f} | {theirs} | "
                f"{'-' if other is None else f'{other:.1f}'} | {grown:.0f} |"
            )
    return TEMPLATE.format(
        date=datetime.date.today().isoformat(),
        machine=platform.processor() or platform.machine(),
        lines="\n".join(lines),
    )


TEMPLATE = """## Mixed models with crossed effects

Written by `tests/performance/mixed_models.py` on {date} ({machine}, one thread): the model from its formula to its standard
errors, `condition * layer + (1 | participant) + (1 | item) + (0 + condition | item)`, simulated trials; median of three. What
statsmodels can fit (linear, as one group with variance components) was run once, at the smallest size; for the logistic model
it has no estimator by likelihood. lme4 is filled in where R is installed. Memory is the peak of a process that fits, less that of
one that only makes the same trials.

| rows | model | limen, CPU s | statsmodels, CPU s | lme4, CPU s | memory, MiB |
| ---: | --- | ---: | ---: | ---: | ---: |
{lines}
"""


if __name__ == "__main__":
    raise SystemExit(main())
