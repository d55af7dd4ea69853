"""Tables of a report as LaTeX for a paper: booktabs rules, numbers aligned to the right, every special character escaped."""

from __future__ import annotations

import re

from .tables import Table

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "\N{MINUS SIGN}": r"$-$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{INFINITY}": r"$\infty$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{ALMOST EQUAL TO}": r"$\approx$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{SUPERSCRIPT TWO}": r"$^2$",
    "\N{SUBSCRIPT ONE}": r"$_1$",
    "\N{SUBSCRIPT TWO}": r"$_2$",
    "\N{WHITE CIRCLE}": r"$\circ$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$",
    "\N{NO-BREAK SPACE}": "~",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
}
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "η": "eta", "θ": "theta", "κ": "kappa",
    "λ": "lambda", "μ": "mu", "ρ": "rho", "σ": "sigma", "τ": "tau", "φ": "varphi", "χ": "chi", "ω": "omega",
}  # fmt: skip
SPECIAL |= {letter: rf"$\{name}$" for letter, name in GREEK.items()}
NUMBER = re.compile(r"^[\s<>=≈~+\-−–.,\d%\[\]()∞ ]*$")
"""What a cell of numbers is made of: signs, digits, percent, intervals, a dash where there is no number."""


def escaped(text: str) -> str:
    """Write text so that LaTeX sets it as it is, whatever a study's conditions are called."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def alignment(table: Table) -> str:
    """Choose a column type for each column: `l` for names and words, `r` where every cell is numbers."""
    columns = ["l"]
    for place in range(1, len(table.header)):
        cells = [row[place] for row in table.rows if place < len(row)]
        columns.append("r" if cells and all(_is_number(cell) for cell in cells) else "l")
    return "".join(columns)


def _is_number(cell: str) -> bool:
    return bool(NUMBER.match(cell)) or bool(re.match(r"^[A-Za-z]{1,2}(\([^)]*\))? = [−\-]?[\d.,∞]+$", cell))


def latex(table: Table) -> str:
    """Return a `table` environment with booktabs rules, caption, label and note.

    The preamble needs `\\usepackage{booktabs}` and, for letters beyond ASCII in names, `\\usepackage[utf8]{inputenc}`.
    A row that has fewer cells than the header is filled up with empty ones.
    """
    width = len(table.header)
    lines = [_row(row, width) for row in table.rows]
    note = rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {escaped(table.note)}}}" if table.note else ""
    parts = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.caption)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name).strip('-')}}}",
        rf"\begin{{tabular}}{{{alignment(table)}}}",
        r"\toprule",
        _row(table.header, width),
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        *([note] if note else []),
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def _row(cells: tuple[str, ...], width: int) -> str:
    filled = [*cells, *[""] * (width - len(cells))]
    # A row that begins with a bracket would be read as the optional argument of the row end before it.
    first, *rest = [escaped(cell) for cell in filled]
    return " & ".join([f"{{}}{first}" if first.startswith("[") else first, *rest]) + r" \\"
