"""How numbers are written, in one place: p without a leading zero, intervals, degrees of freedom, counts."""

from __future__ import annotations

import math

from .results import Estimate

DASH = "–"
MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 2) -> str:
    """Write a number with fixed decimals and a true minus sign; a dash where there is none."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def percent(value: float, digits: int = 1) -> str:
    """Write a share as a percentage."""
    return number(value * 100, digits) + " %" if not math.isnan(value) else DASH


def points(value: float, digits: int = 1) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    if math.isnan(value):
        return DASH
    return ("+" if value > 0 else "") + number(value * 100, digits)


def p_value(value: float) -> str:
    """Write p without the leading zero: '.013', '< .001'; a dash where nothing was tested."""
    if math.isnan(value):
        return DASH
    if value < 0.001:
        return "< .001"
    if value > 0.999:
        return "> .999"
    return f"{value:.3f}".removeprefix("0")


def p_equation(value: float, name: str = "p") -> str:
    """Write p as an equation for running text: 'p = .013', 'p < .001'."""
    text = p_value(value)
    return f"{name} {text}" if text[0] in "<>" else f"{name} = {text}"


def interval(low: float, high: float, digits: int = 2, *, scale: float = 1.0) -> str:
    """Write an interval in brackets; a dash where there is none."""
    if math.isnan(low) or math.isnan(high):
        return DASH
    return f"[{number(low * scale, digits)}, {number(high * scale, digits)}]"


def degrees(df: tuple[float, ...]) -> str:
    """Write degrees of freedom: whole numbers as such, others with one decimal."""
    return ", ".join(f"{value:.0f}" if float(value).is_integer() else f"{value:.1f}" for value in df)


def test(estimate: Estimate) -> str:
    """Write a test statistic with its degrees of freedom: 'F(7, 232) = 9.12'."""
    if not estimate.statistic or math.isnan(estimate.statistic_value):
        return DASH
    df = f"({degrees(estimate.df)})" if estimate.df else ""
    return f"{estimate.statistic}{df} = {number(estimate.statistic_value)}"


def count(n: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun: '1 participant', '2,400 trials'."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def listing(names: list[str]) -> str:
    """Join names for running text: 'a', 'a and b', 'a, b and c'."""
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]
