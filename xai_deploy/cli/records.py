"""xai-records: verify the records of explanations, show one of them, export them as a table."""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError, RecordsError
from ..foundation.json_report import PRINTED, require_place, write_json
from ..foundation.printable import printable
from ..foundation.tables import require_pyarrow, write_csv, write_parquet
from ..foundation.whole_files import whole_file
from ..heatmap import heatmap
from ..images import write_image
from ..pictures import colorize, drawn
from ..records import Kept, Record, read_heads, records, verify
from ..records.export import columns, rows
from ..records.facts import subject
from ..volumes import mosaic
from ..volumes import shown as shown_slices
from . import examples
from .console import Parser, command

PROGRAM = "xai-records"
FAULTY = 1
EXTRA = "records"
_OPTIONS = {"verify": ("head", "count", "heads", "allow_unfinished"), "show": ("out", "image"), "export": ("maps",)}
_TABLES = (".csv", ".parquet")
_ID = re.compile(r"[0-9a-f]{32}")
_AT = re.compile(r"(.+):(\d{1,18})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 1 if a record is not what was written."""
    return command(_parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int | None:
    parser, own = _parser(), _OPTIONS[arguments.what]
    for what, names in _OPTIONS.items():
        for name in names:
            if name not in own and getattr(arguments, name) != parser.get_default(name):
                raise InputError(f"--{name.replace('_', '-')} is for {what}, not for {arguments.what}")
    require_place(arguments.json)
    if arguments.what == "verify":
        return _verify(arguments)
    if arguments.name is None:
        raise InputError("show takes RECORDS and ID" if arguments.what == "show" else "export takes RECORDS and a file")
    if arguments.what == "show":
        return _show(arguments)
    return _export(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.name is not None:
        raise InputError(f"verify takes RECORDS alone, not {arguments.name!r}")
    heads, counts = arguments.head or [], arguments.count or []
    if len(heads) != len(counts):
        raise InputError("--head and --count belong together: give both, as verify printed them, for each chain")
    kept = [Kept(head.lower(), count) for head, count in zip(heads, counts, strict=True)]
    kept += [] if arguments.heads is None else read_heads(Path(arguments.heads))
    found = verify(Path(arguments.records), kept, arguments.allow_unfinished)
    report = {
        "intact": not found.faults,
        "chains": [asdict(chain) | {"missing": chain.missing} for chain in found.chains],
        "faults": [asdict(fault) for fault in found.faults],
    }
    if arguments.json:
        write_json(report, arguments.json)
    if arguments.json != PRINTED:
        for fault in found.faults:
            print(printable(str(fault)))
        if not arguments.quiet:
            _print_chains(found.chains)
            _print_verdict(found.chains, len(found.faults), bool(kept))
    return FAULTY if found.faults else 0


def _print_chains(chains: Sequence[Any]) -> None:
    for chain in chains:
        notes = ["a process writes it now"] if chain.live else []
        if chain.first:
            notes.append(f"it begins with record {chain.first}")
        if chain.missing and not chain.closed and not chain.count:
            notes.append(
                f"all {chain.missing} records that its process accepted are missing: lost when it was killed, or removed"
            )
        elif chain.missing and not chain.closed:
            notes.append(
                f"{chain.missing} more were accepted: lost in the queue of a process that was killed, or cut off"
            )
        if chain.lost:
            notes.append(f"{chain.lost} were dropped because the queue was full")
        print(f"{chain.name}: --head {chain.head} --count {chain.count}" + "".join(f"; {note}" for note in notes))


def _print_verdict(chains: Sequence[Any], faults: int, compared: bool) -> None:
    count = sum(chain.count - chain.first for chain in chains)
    what = f"{count} record{'s' * (count != 1)} in {len(chains)} chain{'s' * (len(chains) != 1)}"
    if faults:
        print(f"{what}: {faults} fault{'s' * (faults != 1)}")
    elif compared:
        print(f"{what}: as they were when the heads were kept, and in order since")
    else:
        print(f"{what}: in order; keep the heads elsewhere, only they show a rewritten chain or a cut end")


def _show(arguments: argparse.Namespace) -> int:
    for path in (arguments.out, arguments.image):
        require_place(path)
    record = _find(Path(arguments.records), arguments.name)
    document = asdict(record)
    document["map"].pop("data")
    image = document["input"].pop("image")
    if arguments.image:
        if image is None:
            raise RecordsError(f"{record.id}: its image was not kept (xai-explain --records-images keeps images)")
        try:
            data = base64.b64decode(image, validate=True)
        except ValueError:
            raise RecordsError(f"{record.id}: its image is no base64; the record was changed") from None
        with whole_file(Path(arguments.image)) as file:
            file.write(data)
    if arguments.out:
        write_image(arguments.out, _picture(record))
    if arguments.json:
        write_json(document, arguments.json)
    if arguments.json != PRINTED and not arguments.quiet:
        target = record.target
        what = subject(target.label, target.versus_label, target.sign, target.title)
        print(printable(f"{what} by {record.method}, {record.time}, {record.source.bundle} on {record.source.backend}"))
        print(json.dumps(document, indent=1))
    return 0


def _picture(record: Record) -> Any:
    """The map alone, in the size of the network's input."""
    raw, signed, size = record.map.raw, record.map.signed, record.source.size
    values = drawn(heatmap(raw[None], *size)[0], raw, signed, at_pixels=raw.shape == size)
    if values.ndim == 3:
        values = mosaic(values[shown_slices(len(values))])
    return colorize(values, signed=signed)


def _find(path: Path, name: str) -> Record:
    """The record of an id, or of CHAIN:NUMBER.

    Raises:
        RecordsError: There is none, or the name is neither.
    """
    at = _AT.fullmatch(name)
    if _ID.fullmatch(name) is None and at is None:
        raise RecordsError(f"{name}: is no record's id (32 hexadecimal digits) and not CHAIN:NUMBER")
    for _, record in records(path):
        if record.id == name or (at is not None and (record.chain, record.number) == (at[1], int(at[2]))):
            return record
    raise RecordsError(f"{path}: holds no record {name}")


def _export(arguments: argparse.Namespace) -> int:
    out = Path(arguments.name)
    if out.suffix not in _TABLES:
        raise InputError(f"{out}: the file ends in {' or '.join(_TABLES)}")
    if out.exists() and not arguments.overwrite:
        raise InputError(f"{out}: exists; choose another name, or give --overwrite")
    require_place(arguments.name)
    if arguments.maps and out.suffix == ".csv":
        raise InputError("--maps: a CSV file holds no maps; export to .parquet")
    names, count = columns(arguments.maps), 0

    def counted() -> Any:
        nonlocal count
        for row in rows(records(Path(arguments.records)), arguments.maps):
            count += 1
            yield row

    if out.suffix == ".parquet":
        require_pyarrow(EXTRA)
    with whole_file(out) as file:
        if out.suffix == ".csv":
            write_csv(file, names, counted())
        else:
            write_parquet(file, names, counted(), EXTRA)
    if arguments.json:
        write_json({"file": str(out), "records": count, "columns": names}, arguments.json)
    if arguments.json != PRINTED and not arguments.quiet:
        print(printable(f"{count} record{'s' * (count != 1)} in {out}"))
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        usage="%(prog)s verify [--head SHA --count N] [--heads FILE.json] RECORDS\n"
        "       %(prog)s show [-o MAP.png] [--image FILE] RECORDS ID\n"
        "       %(prog)s export [--maps] [--overwrite] RECORDS FILE.csv|FILE.parquet",
        description="Verify the records of explanations that xai-explain --records and Recorder keep, show one of them, or export "
        "them as a table.",
        epilog=examples.RECORDS,
    )
    add = parser.add_argument
    add("what", metavar="verify|show|export", choices=tuple(_OPTIONS), help="what to do")
    add("records", metavar="RECORDS", help="the folder of records; show and export also take one of its files")
    add("name", metavar="ID|FILE", nargs="?", help="show: a record's id, or CHAIN:NUMBER; export: the table to write")
    add(
        "--head",
        action="append",
        type=_sha,
        metavar="SHA",
        help="verify: the head of a chain, as it was kept elsewhere",
    )
    add(
        "--count",
        action="append",
        type=_whole,
        metavar="N",
        help="verify: how many records the chain had with that head",
    )
    add(
        "--heads",
        metavar="FILE.json",
        help="verify: the heads of all chains, as verify --json FILE.json wrote them earlier",
    )
    add(
        "--allow-unfinished",
        action="store_true",
        help="verify: take a last line without an end for that of a process that was killed",
    )
    add("-o", "--out", metavar="MAP.png", help="show: write the map as a picture")
    add("--image", metavar="FILE", help="show: write the image, if it was kept")
    add("--maps", action="store_true", help="export: with the maps, as bytes of float16 (Parquet)")
    add("--overwrite", action="store_true", help="replace an existing file")
    parser.add_json()
    parser.add_common()
    return parser


def _sha(text: str) -> str:
    if re.fullmatch(r"[0-9a-fA-F]{64}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no sha256 of 64 hexadecimal digits")
    return text


def _whole(text: str) -> int:
    if re.fullmatch(r"\d{1,18}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no count of records")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
