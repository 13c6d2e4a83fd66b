"""Texts in tables are broken between words, long names at their marks, and nothing of them is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from simulator.report.layout import table_of
from simulator.report.wrapping import Wrapped

NAME = "llms.gateway.keys.partners.requests_limit"


@pytest.mark.parametrize(
    ("text", "indent", "width", "lines"),
    [
        (NAME, 2, 41, [NAME]),
        (NAME, 2, 40, ["llms.gateway.keys.partners.", "  requests_limit"]),
        (f"{NAME} x2", 2, 42, [NAME, "  x2"]),
        (NAME, 2, 17, ["llms.gateway.", "  keys.partners.", "  requests_limit"]),
        (NAME, 2, 15, ["llms.gateway.", "keys.partners.", "requests_limit"]),
        (NAME, 2, 8, ["llms.", "gateway.", "keys.", "partners", ".", "requests", "_limit"]),
        ("per thousand conversations", 2, 13, ["per thousand", "conversations"]),
        ("per thousand conversations", 2, 15, ["per thousand", "  conversations"]),
        ("  of them cached", 2, 12, ["  of them", "    cached"]),
        ("eu-west-1.db is busy 52 %", 0, 12, ["eu-west-1.db", "is busy 52 %"]),
        ("", 2, 5, [""]),
    ],
)
def test_where_lines_end(text, indent, width, lines):
    assert Wrapped(text, indent).lines(width) == lines


@given(st.text("ab.-_ é", max_size=60), st.integers(0, 4), st.integers(1, 70))
def test_lines_fit_and_have_all_of_the_text(text, indent, width):
    lines = Wrapped(text, indent).lines(width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    if width >= len(text):
        assert lines == [text.rstrip()]
    if not text.startswith(" "):
        assert all(len(line) <= width for line in lines)


def test_a_table_breaks_names_at_dots():
    table = table_of("resource", "utilization", "interval", "waiting")
    table.add_row(NAME, "10.7 %", "[7.4, 13.9]", "0.00269")
    table.add_row("[red]hosts.edge.cpu[/red]", "0.0030 %", "[0.0000, 0.0066]", "0")
    console = Console(width=70)
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert lines[2].startswith("llms.gateway.keys.partners.  ")
    assert lines[3] == "  requests_limit"
    assert lines[4].startswith("[red]hosts.edge.cpu[/red]")
    assert max(map(len, lines)) <= 70
