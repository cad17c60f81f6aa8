"""The commands' parser: what argparse alone takes for an option."""

from __future__ import annotations

import pytest

from xai_deploy.foundation.exits import OneLineParser


@pytest.mark.parametrize("text", ["-1000,1000", "-1", "-0.5,.5", "-1e-3,2E+1", "-.5"])
def test_lists_of_numbers_may_begin_with_a_minus(text: str) -> None:
    parser = OneLineParser(prog="x")
    parser.add_argument("--range")
    parser.add_argument("-q", action="store_true")
    given = parser.parse_args(["--range", text, "-q"])
    assert (given.range, given.q) == (text, True)


@pytest.mark.parametrize("text", ["-q", "--q", "-1x", "-e"])
def test_other_words_are_options(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = OneLineParser(prog="x")
    parser.add_argument("--range")
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--range", text])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "x: error: argument --range: expected one argument\n"
