"""CSV that a spreadsheet opens: texts of strangers are no formulas, and hold nothing that a terminal obeys."""

from __future__ import annotations

import csv
import io

import pytest

from xai_deploy.foundation.tables import write_csv


def written(**row: object) -> list[list[str]]:
    file = io.BytesIO()
    write_csv(file, row, [row])
    return list(csv.reader(io.StringIO(file.getvalue().decode("utf-8", "surrogateescape"), newline=""), strict=True))


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_a_text_is_no_formula(first: str) -> None:
    text = f'{first}cmd|" /C calc"!A0'
    assert written(**{text: text, "b": f"a{text}"}) == [[f"'{text}", "b"], [f"'{text}", f"a{text}"]]


def test_numbers_stay_numbers() -> None:
    assert written(a=-1, b=-0.5, c=1e-300, d=None, e=True) == [[*"abcde"], ["-1", "-0.5", "1e-300", "", "True"]]


def test_control_characters_are_escaped() -> None:
    assert written(a="x\x1b[31m\n\r\t\0\x7f\x9b\u2028y") == [
        ["a"],
        ["x\\u001b[31m\\u000a\\u000d\\u0009\\u0000\\u007f\\u009b\\u2028y"],
    ]
    assert written(a="\t=1+1") == [["a"], ["\\u0009=1+1"]]


def test_what_is_no_character() -> None:
    """A byte that is not UTF-8 stays one; a lone surrogate of no byte is escaped."""
    file = io.BytesIO()
    write_csv(file, ["a"], [{"a": "caf\udce9\ud800, \u732b \u00e9"}])
    assert file.getvalue() == b'a\n"caf\xe9\\ud800, \xe7\x8c\xab \xc3\xa9"\n'
