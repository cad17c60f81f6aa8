"""Images in tar files and Parquet files: written by tarfile and pyarrow, damaged by hand."""

from __future__ import annotations

import io
import os
import tarfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xai_deploy.errors import ImageFileError, ImageTooLargeError
from xai_deploy.images import encode_image, image_files, read_image
from xai_deploy.images.archive import opened
from xai_deploy.images.parquet import Parquet
from xai_deploy.images.tar import Tar

LONG = "a" * 60 + "/" + "b" * 90 + "/photo-ü.png"


def picture(seed: int) -> bytes:
    return encode_image(np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8), ".png")


def write_tar(path: Path, entries: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A ustar header with any size; one of 8 GiB and more in base 256."""
    field = f"{size:011o}\0".encode() if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = name.encode().ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"00000000000\0"
    block += b" " * 8 + kind + b"\0" * 100 + b"ustar\x0000" + b"\0" * 247
    return block[:148] + f"{sum(block):06o}\0 ".encode() + block[156:512]


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in image_files(root)]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar(tmp_path: Path, form: int) -> None:
    entries = [(LONG, picture(0)), ("./b.PNG", picture(1)), ("b.cls", b"4\n"), ("c.txt", b"text"), ("._b.png", b"x")]
    entries += [("0/a.jpg.png", picture(2)), ("0/a.cls", b"cat"), ("0/a.mask.png", picture(3))]
    tar = write_tar(tmp_path / "x.tar", entries, form)
    assert names(tar) == [LONG, "b.PNG", "0/a.jpg.png"]
    for name, seed in ((LONG, 0), ("b.PNG", 1), ("0/a.jpg.png", 2)):
        assert opened(tar).read(name) == picture(seed)
        (tmp_path / "one.png").write_bytes(picture(seed))
        np.testing.assert_array_equal(read_image(tar / name), read_image(tmp_path / "one.png"))
    assert [opened(tar).label(name) for name in names(tar)] == [None, 4, "cat"]
    assert opened(tar).masks == {"0/a": "0/a.mask.png"}


def test_hostile_entries_are_refused_one_by_one(tmp_path: Path) -> None:
    good = picture(0)
    body = good.ljust(-(-len(good) // 512) * 512, b"\0")
    tar = tmp_path / "x.tar"
    tar.write_bytes(
        header("../../etc/a.png", len(good)) + body + header("/root.png", len(good)) + body
        + header("link.png", 0, b"2") + header("a.png", len(good)) + body + header("a.png", len(good)) + body
        + header("empty.png", 0) + header("last.png", 1 << 50) + body
    )  # fmt: skip
    told = {}
    for path in image_files(tar):
        try:
            read_image(path)
        except ImageFileError as error:
            told[path.relative_to(tar).as_posix()] = str(error).removeprefix(f"{path}: ")
    assert told == {
        "entry-1": "its name '../../etc/a.png' leads out of the archive",
        "entry-2": "its name '/root.png' leads out of the archive",
        "link.png": "is a link, a device or a sparse file; an archive of images holds plain files",
        "a.png-again": "the archive holds 'a.png' twice",
        "empty.png": "is empty; copy or download it again",
        "last.png": f"the archive ends {(1 << 50) - len(body)} bytes before this entry does; copy or download it again",
    }
    assert read_image(tar / "a.png").shape == (5, 7, 3)


def test_every_cut_of_a_tar_leaves_what_lies_before_it(tmp_path: Path) -> None:
    whole = write_tar(
        tmp_path / "x.tar", [(f"{i}.png", picture(i)) for i in range(3)], tarfile.USTAR_FORMAT
    ).read_bytes()
    ends = [i * 1024 + 512 + len(picture(i)) for i in range(3)]
    for cut in range(512, 3 * 1024, 97):
        tar = tmp_path / f"{cut}.tar"
        tar.write_bytes(whole[:cut])
        whole_ones, told = 0, []
        for path in image_files(tar):
            try:
                read_image(path)
                whole_ones += 1
            except ImageFileError as error:
                told.append(str(error))
        assert whole_ones == sum(end <= cut for end in ends), cut
        assert all("ends" in line and "\n" not in line for line in told)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a tar file at all" * 100, "is no tar file; copy it again, or give a .tar file"),
        (header("x", 1 << 40, b"L") + b"y" * 512, f"entry 1 has a name or a header of {1 << 40} bytes"),
        (header("x", 100, b"x") + b"99 path=y\n".ljust(512, b"\0"), "entry 1 has a damaged extended header"),
        (header("x", 100, b"x") + b"-1 path=y\n".ljust(512, b"\0"), "entry 1 has a damaged extended header"),
        (header("x", 18, b"x") + b"18 size=-99999999\n".ljust(512, b"\0"), "entry 1 has a damaged extended header"),
        (b"\0" * 1024, "holds no images"),
        (b"", "holds no images"),
        (b"\0" * 100, "the file ends in the middle of a header"),
    ],
)
def test_damaged_tars(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(ImageFileError) as told:
        image_files(tmp_path / "x.tar")
    assert str(told.value).startswith(f"{tmp_path / 'x.tar'}: {message}")


def test_compressed_tars(tmp_path: Path) -> None:
    for name in ("x.tar.gz", "x.tgz", "x.tar.zst"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ImageFileError, match=r"is a compressed tar file; decompress it to \.tar"):
            image_files(tmp_path / name)


def test_garbage_in_any_byte_of_a_header(tmp_path: Path) -> None:
    """One line or the images, never another exception."""
    whole = bytearray(
        write_tar(tmp_path / "x.tar", [("a" * 120 + ".png", picture(0)), ("b.png", picture(1))]).read_bytes()
    )
    rng, told = np.random.default_rng(0), []
    for number in range(300):
        changed = bytearray(whole)
        for place in rng.integers(0, 2048, 3):
            changed[place] = rng.integers(0, 256)
        tar = tmp_path / f"{number}.tar"
        tar.write_bytes(changed)
        try:
            for path in image_files(tar):
                opened(tar).read(path.relative_to(tar).as_posix())
        except ImageFileError as error:
            told.append(str(error))
        tar.unlink()
    assert len(told) > 100
    assert not any("\n" in line for line in told)


def write_parquet(path: Path, rows: int = 10, **columns: object) -> Path:
    given = columns or {
        "image": [{"bytes": picture(i), "path": f"p/{i}.png"} for i in range(rows)],
        "label": list(range(rows)),
    }
    pq.write_table(pa.table(given), path, row_group_size=4)
    return path


def test_parquet(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet")
    assert names(file) == [f"p/{i}.png" for i in range(10)]
    for row in (0, 1, 3, 4, 9, 2, 2, 7, 8):  # forwards, backwards, the same again, over groups
        assert opened(file).read(f"p/{row}.png") == picture(row)
        assert opened(file).label(f"p/{row}.png") == row
    with pytest.raises(ImageFileError, match=r"x\.parquet/p/10\.png: no such row"):
        opened(file).read("p/10.png")
    data = [picture(i) for i in range(3)]
    file = write_parquet(tmp_path / "masks.parquet", image=data, mask=data[::-1])
    assert [opened(file).read(f"mask/{row}") for row in (1, 0, 2)] == [data[1], data[2], data[0]]
    for wrong in ("-1", "3", "1_0", "one", ""):
        with pytest.raises(ImageFileError, match=rf"masks\.parquet/mask(/{wrong})?: no such row$"):
            opened(file).read(f"mask/{wrong}")


def test_parquet_columns(tmp_path: Path) -> None:
    data = [picture(i) for i in range(3)]
    plain = write_parquet(
        tmp_path / "a.parquet", pixels=data, file_name=["x.png", "y.png", "y.png"], cls=["cat", None, "owl"]
    )
    assert names(plain) == ["0", "1", "2"]  # a name twice: the rows' numbers
    assert opened(plain).read("2") == data[2]
    assert [opened(plain).label(name) for name in ("0", "1", "2")] == ["cat", None, "owl"]
    escaping = write_parquet(tmp_path / "b.parquet", image=data, file_name=["../x.png", "y.png", "z.png"])
    assert names(escaping) == ["0", "1", "2"]
    masked = write_parquet(
        tmp_path / "c.parquet", image=[*data[:2], None], name=["x.png", "y.png", "z.png"], mask=data[::-1]
    )
    assert [opened(masked).read(name) for name in opened(masked).masks.values()] == data[::-1]
    assert list(opened(masked).masks) == ["x", "y", "z"]
    with pytest.raises(ImageFileError, match=r"c\.parquet/z\.png: the row holds no bytes"):
        read_image(masked / "z.png")
    for columns, message in (
        ({"x": [1]}, "has no column of bytes"),
        ({"x": data, "y": data}, r"has several columns of bytes \(x, y\); name that of the images 'image'"),
    ):
        with pytest.raises(ImageFileError, match=message):
            image_files(write_parquet(tmp_path / "d.parquet", **columns))


def test_damaged_parquet(tmp_path: Path) -> None:
    """Cut anywhere or changed anywhere, it is refused in one line, or some of its images are."""
    whole = write_parquet(tmp_path / "x.parquet").read_bytes()
    rng, told = np.random.default_rng(0), []
    for number in range(120):
        damaged = bytearray(whole[: rng.integers(0, len(whole))] if number % 2 else whole)
        for place in rng.integers(0, len(whole), 0 if number % 2 else 4):
            damaged[place] = rng.integers(0, 256)
        file = tmp_path / f"{number}.parquet"
        file.write_bytes(damaged)
        try:
            for path in image_files(file):
                opened(file).read(path.relative_to(file).as_posix())
        except ImageFileError as error:
            told.append(str(error))
        else:
            assert number % 2 == 0
        os.unlink(file)
    assert len(told) > 60
    assert not any("\n" in line for line in told)


def test_a_row_group_of_a_claimed_terabyte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_parquet(tmp_path / "x.parquet")
    monkeypatch.setattr("xai_deploy.images.parquet._GROUP_LIMIT", 100)
    with pytest.raises(
        ImageTooLargeError, match=r"its row group 0 has \d+ bytes, the limit is 100; write smaller ones"
    ):
        image_files(file)


def test_folders_of_archives(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "sub").mkdir(parents=True)
    write_tar(root / "sub/b.tar", [("1.png", picture(0))])
    write_tar(root / "a.tar", [("2.png", picture(0)), ("1.png", picture(1))])
    write_parquet(root / "c.parquet", 2)
    assert names(root) == ["a.tar/2.png", "a.tar/1.png", "c.parquet/p/0.png", "c.parquet/p/1.png", "sub/b.tar/1.png"]
    assert names(root / "sub") == ["b.tar/1.png"]
    (root / "z.png").write_bytes(picture(0))
    assert names(root) == ["z.png"]  # image files come first


def in_one_group(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, compression="zstd")
    return path


def test_rows_without_bytes_are_bounded_by_the_file(tmp_path: Path) -> None:
    """A file of some kilobytes can state any number of them, each with a name in memory."""
    assert len(names(in_one_group(tmp_path / "few.parquet", image=pa.nulls(1 << 17, pa.binary())))) == 1 << 17
    file = in_one_group(tmp_path / "many.parquet", image=pa.nulls((1 << 17) + 1, pa.binary()))
    size = file.stat().st_size
    assert size < 20_000
    with pytest.raises(ImageTooLargeError, match=rf"states 131073 rows, the limit is 131072 in a file of {size} bytes"):
        image_files(file)


def test_values_within_a_row_are_bounded_too(tmp_path: Path) -> None:
    labels = pa.array([[None] * 100_000] * 2, pa.list_(pa.int32()))
    with pytest.raises(ImageTooLargeError, match=r"its column 'label' has 200000 values, the limit is 131072"):
        image_files(in_one_group(tmp_path / "x.parquet", image=pa.nulls(2, pa.binary()), label=labels))


@pytest.mark.parametrize("column", ["label", "name"])
def test_a_long_text_in_every_row_is_in_memory_once(tmp_path: Path, column: str) -> None:
    rows, text = 2000, "L" * 50_000  # 100 MB as texts of their own
    file = in_one_group(tmp_path / "x.parquet", **{"image": [picture(0)] * rows, column: [text] * rows})
    assert file.stat().st_size < 100_000
    archive = Parquet(file)  # imports pyarrow
    pool, before = pa.default_memory_pool(), pa.default_memory_pool().bytes_allocated()
    tracemalloc.start()
    try:
        archive = Parquet(file)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert pool.bytes_allocated() - before < 5_000_000
    assert archive.label(archive.images[1999]) == (text if column == "label" else None)


def test_a_column_of_labels_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai_deploy.images.parquet._TEXT_LIMIT", 10_000)
    with pytest.raises(ImageTooLargeError, match=r"its column 'label' has \d{5} bytes, the limit is 10000"):
        image_files(write_parquet(tmp_path / "x.parquet", image=[picture(0)], label=["L" * 20_000]))


def test_texts_are_read_as_they_are(tmp_path: Path) -> None:
    """With and without a dictionary, in several row groups, missing ones, and inside a column of their own."""
    labels: list[object] = ["cat", None, "", "owl", "cat", "owl"]
    images = [{"bytes": picture(i), "path": f"p/{i % 3}{i}.png"} for i in range(6)]
    for number, dictionary in enumerate((True, False)):
        file = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"image": images, "label": labels}), file, use_dictionary=dictionary, row_group_size=4)
        archive = Parquet(file)
        assert list(archive.images) == [one["path"] for one in images]
        assert [archive.label(name) for name in archive.images] == labels
    own = pa.array(labels).dictionary_encode()
    pq.write_table(pa.table({"image": [picture(0)] * 6, "label": own}), tmp_path / "own.parquet", row_group_size=4)
    archive = Parquet(tmp_path / "own.parquet")
    assert [archive.label(name) for name in archive.images] == labels


def test_many_entries_of_one_name(tmp_path: Path) -> None:
    """Each is refused by a name of its own, in a time that grows with their number and no faster."""
    seconds = []
    for count in (1_000, 5_000):
        (tmp_path / "x.tar").write_bytes(header("a.png", 0) * count)
        started = time.process_time()
        archive = Tar(tmp_path / "x.tar")
        seconds.append(time.process_time() - started)
        assert len(archive.images) == count
    assert seconds[1] < 8 * seconds[0] + 0.1
    assert list(archive.images[:4]) == ["a.png", "a.png-again", "a.png-again-2", "a.png-again-3"]
    with pytest.raises(ImageFileError, match=r"the archive holds 'a\.png' twice"):
        archive.read("a.png-again-3999")
