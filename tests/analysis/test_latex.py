"""Tables as LaTeX: what a name holds never becomes a command, and every row has as many cells as the head."""

from __future__ import annotations

import re

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.latex import SPECIAL, alignment, escaped, latex
from analysis.tables import Table

COMMANDS = {
    "begin", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "end", "par", "smallskip", "parbox",
    "linewidth", "footnotesize", "textbackslash", "textasciitilde", "textasciicircum", "infty", "times", "approx", "leq",
    "geq", "circ", "uparrow", "downarrow", "rightarrow", "alpha", "beta", "gamma", "delta", "varepsilon", "eta", "theta",
    "kappa", "lambda", "mu", "rho", "sigma", "tau", "varphi", "chi", "omega",
}  # fmt: skip


def table(rows: list[tuple[str, ...]], header: tuple[str, ...] = ("Condition", "n", "Mean"), **further: str) -> Table:
    given_ = {"caption": "Accuracy", "note": ""} | further
    return Table(name="accuracy", header=header, rows=tuple(rows), frame=pd.DataFrame(), **given_)


def check_structure(text: str) -> list[list[str]]:
    """Check LaTeX's own rules of a table and return its rows as cells."""
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0, "a group is closed that was never opened"
    assert depth == 0, "a group is left open"
    assert bare.count("$") % 2 == 0, "a formula is left open"
    assert not re.search(r"[#%]", bare), "a comment or a parameter sign"
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= COMMANDS
    opened = re.findall(r"\\begin\{(\w+)\}", text)
    assert opened == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == opened[::-1]
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    lines = [line for line in body.strip().splitlines() if line]
    rows = []
    for line in lines:
        assert line.endswith(r" \\")
        cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
        rows.append([cell.strip() for cell in cells])
    columns = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)[0]
    assert {len(row) for row in rows} == {len(columns)}
    return rows


def test_a_table_is_a_booktabs_table():
    found = latex(table([("grad_cam", "40", "72.1 %"), ("none", "38", "–")], note="One number a participant."))
    assert check_structure(found) == [
        ["Condition", "n", "Mean"],
        [r"grad\_cam", "40", r"72.1 \%"],
        ["none", "38", "--"],
    ]
    assert r"\label{tab:accuracy}" in found
    assert "One number a participant." in found


def test_numbers_stand_to_the_right_and_words_to_the_left():
    rows = [
        ("a", "1,200", "+3.2 [−1.0, 7.4]", "F(2, 37.0) = 4.11", "< .001", "most useful"),
        ("b", "–", "0.0", "t(3) = −1.2", ".013", "x1"),
    ]
    assert alignment(table(rows, ("Condition", "n", "Gap", "Test", "p", "Said"))) == "lrrrrl"


def test_a_short_row_is_filled_up():
    rows = check_structure(latex(table([("none", "38")])))
    assert rows[1] == ["none", "38", ""]


def test_a_cell_that_begins_with_a_bracket_is_no_argument_of_the_row_before():
    rows = check_structure(latex(table([("[a]", "1", "2")])))
    assert rows[1][0] == "{}[a]"


def test_no_condition_name_becomes_a_command():
    rows = check_structure(latex(table([(r"\input{/etc/passwd} & 50% of #1 ~ ^ $x$", "1", "2")])))
    assert (
        rows[1][0] == r"\textbackslash{}input\{/etc/passwd\} \& 50\% of \#1 \textasciitilde{} \textasciicircum{} \$x\$"
    )


def test_signs_of_the_reports_have_their_own_commands():
    assert escaped("η² = ω² − ρ, df₁ × ∞") == r"$\eta$$^2$ = $\omega$$^2$ $-$ $\rho$, df$_1$ $\times$ $\infty$"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.text(alphabet=[*SPECIAL, *"ab1 []."], max_size=12), min_size=3, max_size=3),
    st.text(alphabet=[*SPECIAL, "a"], max_size=20),
)
def test_any_text_gives_a_whole_table(cells, note):
    rows = check_structure(latex(table([tuple(cells)], caption=note or "x", note=note)))
    assert len(rows) == 2
