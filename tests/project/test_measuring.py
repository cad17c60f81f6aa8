"""scripts/measuring.py: journals, limits, and rows that stay on a page."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import measuring  # noqa: E402

CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
PAGE = """# Title

| a | b |
|-|-|
| one | 1 |
| two | 2 |

Words.

| c | d |
|-|-|
| two | 3 |
| old | 4 |
"""


def test_the_last_result_counts_and_a_cut_line_does_not(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    assert measuring.read(journal, lambda result: result["name"]) == {}
    for value in (1, 2):
        measuring.keep(journal, {"name": "net", "value": value})
    with journal.open("a") as file:
        file.write('{"name": "net", "val')
    [(name, result)] = measuring.read(journal, lambda result: result["name"]).items()
    assert (name, result["value"]) == ("net", 2)
    assert time.strptime(result["measured"], "%Y-%m-%d")


def test_a_result_follows_its_marker() -> None:
    command = [sys.executable, "-c", "print('x' * 200_000); print('RESULT {\"a\": 1}')"]  # more than a pipe holds
    assert measuring.run(command, "RESULT ", 10, 1) == {"a": 1}


@pytest.mark.parametrize(
    ("code", "seconds", "gigabytes", "reason"),
    [
        (CHILD, 0.3, 1, "stopped after 0.3 s of processor time"),
        ("import time; x = bytearray(10**8); time.sleep(30)", 10, 0.08, "stopped at 0.08 GB"),
        ("print('first'); raise SystemExit('the net is odd')", 10, 1, "ended with status 1: the net is odd"),
        ("print('RESULT {}'); import os; os._exit(0)", 10, 1, None),
    ],
)
def test_why_there_is_no_result(code: str, seconds: float, gigabytes: float, reason: str | None) -> None:
    result = measuring.run([sys.executable, "-u", "-c", code], "RESULT ", seconds, gigabytes)
    assert result.get("reason") == reason


def test_children_end_with_their_parent() -> None:
    mark = "never-ending-child-of-this-test"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass', {mark!r}])"
    measuring.run([sys.executable, "-c", code], "RESULT ", 0.3, 1)
    assert mark not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_named_rows_are_replaced_and_the_others_stay() -> None:
    rows = {"old": "| old | 5 | today |", "new": "| new | 6 | today |"}
    page = measuring.merged(PAGE, 1, "| c | d | when |", rows, ["new", "absent", "two"])
    before, after = PAGE.split("| c | d |")
    assert page == before + "| c | d | when |\n|-|-|-|\n| new | 6 | today |\n| two | 3 | |\n| old | 5 | today |\n"
    assert "| two | 3 |" in after
    assert "| two | 2 |" in before  # the other table's row of the same name


def test_the_zoos_page_keeps_rows_and_counts_them() -> None:
    from zoo import table

    page = (ROOT / "docs/zoo.md").read_text()
    rows = table.kept(page)
    assert len(rows) == sum(line.startswith("|") for line in page.splitlines()) - 2
    assert table.page({}, [name for name, _ in rows], page) == page
    case, row = next((case, row) for case, row in rows.items() if case[1] == "dynamo" and row.exported)
    result = {"name": case[0], "variant": row.variant, "exporter": "dynamo", "torch": "no", "measured": "2026-01-02"}
    other = table.page({case: result}, [case[0]], page)
    renewed = table.kept(other)
    assert {key: renewed[key] for key in rows if key != case} == {key: rows[key] for key in rows if key != case}
    assert renewed[case] == table.Row(row.variant, "", ["torch: no", "", "", ""], "2026-01-02")
    counts = next(line for line in other.splitlines() if line.startswith("dynamo: "))
    written = sum(
        not one.cells[0].startswith(("torch: ", "not built: ")) for (_, by), one in rows.items() if by == "dynamo"
    )
    assert f" {written - 1} written by torch" in counts
