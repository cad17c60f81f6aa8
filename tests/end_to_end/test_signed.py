"""Signed bundles: `--sign`, `--trusted-key` of every command, and what OpenSSF Model Signing's own package signed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from xai_exporters import cli as xai_export
from xai_exporters.bundle import places

from xai_deploy import Bundle, Explainer, write_image
from xai_deploy.benchmark import benchmark
from xai_deploy.cli import bench, check, evaluate, explain, serve
from xai_deploy.errors import KeyFileError, SignatureError, XaiError
from xai_deploy.format import signature
from xai_deploy.format.signature import PASSWORD, SigningKey, TrustedKey

ROOT = Path(__file__).resolve().parents[2]
NETWORK = ROOT / "models" / "clutter_digits" / "clutter_digits.onnx"
PEM, PLAIN = serialization.Encoding.PEM, serialization.NoEncryption()


def write_keys(folder: Path, name: str, key: object, password: bytes | None = None) -> tuple[Path, Path]:
    """NAME.pem and NAME.pub."""
    how = PLAIN if password is None else serialization.BestAvailableEncryption(password)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how))  # type: ignore[attr-defined]
    public.write_bytes(
        key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    )
    return private, public


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two keys, a signed bundle, and a photo."""
    folder = tmp_path_factory.mktemp("signed")
    private, _ = write_keys(folder, "own", ec.generate_private_key(ec.SECP256R1()))
    write_keys(folder, "other", ec.generate_private_key(ec.SECP384R1()))
    arguments = [str(NETWORK), "--preprocess", "unit", "-o", str(folder / "net.xai"), "--sign", str(private), "-q"]
    assert xai_export.main(arguments) == 0
    write_image(folder / "photo.png", np.random.default_rng(0).integers(0, 255, (70, 80, 3)).astype(np.uint8))
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to change."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def unsigned(folder: Path) -> None:
    (folder / "net.xai.sig").unlink()


def signed_by_another(folder: Path) -> None:
    files = {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in (folder / "net.xai").iterdir()}
    (folder / "net.xai.sig").write_bytes(SigningKey(folder / "other.pem").sign("net.xai", files))


def a_changed_byte(folder: Path) -> None:
    file = folder / "net.xai" / "head.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def a_changed_manifest(folder: Path) -> None:
    """Another byte in a graph, and a manifest that agrees with it: what a forger without the key would do."""
    a_changed_byte(folder)
    path = folder / "net.xai" / "manifest.json"
    document = json.loads(path.read_text())
    data = (folder / "net.xai" / "head.onnx").read_bytes()
    document["files"]["head.onnx"]["sha256"] = hashlib.sha256(data).hexdigest()
    blank = json.dumps({**document, "digest": ""}, indent=1, ensure_ascii=False) + "\n"
    document["digest"] = hashlib.sha256(blank.encode()).hexdigest()
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def an_added_file(folder: Path) -> None:
    (folder / "net.xai" / "more.txt").write_text("more")


def a_removed_file(folder: Path) -> None:
    (folder / "net.xai" / "tail.onnx").unlink()


def a_linked_file(folder: Path) -> None:
    """To the very bytes that were signed, today."""
    file = folder / "net.xai" / "head.onnx"
    file.rename(folder / "elsewhere")
    file.symlink_to(folder / "elsewhere")


def an_added_folder(folder: Path) -> None:
    (folder / "net.xai" / "more").mkdir()


def an_added_link(folder: Path) -> None:
    (folder / "net.xai" / "more").symlink_to(folder / "photo.png")


def a_name_in_capitals(folder: Path) -> None:
    (folder / "net.xai" / "head.onnx").rename(folder / "net.xai" / "HEAD.onnx")


def a_linked_signature(folder: Path) -> None:
    (folder / "net.xai.sig").rename(folder / "elsewhere")
    (folder / "net.xai.sig").symlink_to(folder / "elsewhere")


def a_key_that_is_no_line(folder: Path) -> None:
    document = json.loads((folder / "net.xai.sig").read_text())
    document["verificationMaterial"] = {"publicKey": {"hint": "\n\x1b[31m\ud800"}}
    (folder / "net.xai.sig").write_text(json.dumps(document))


def a_changed_signature(folder: Path) -> None:
    document = json.loads((folder / "net.xai.sig").read_text())
    [entry] = document["dsseEnvelope"]["signatures"]
    entry["sig"] = entry["sig"][:-8] + ("AAAAAAA=" if entry["sig"][-8:] != "AAAAAAA=" else "BAAAAAA=")
    (folder / "net.xai.sig").write_text(json.dumps(document))


def a_signature_of_another_bundle(folder: Path) -> None:
    files = {"manifest.json": "0" * 64}
    (folder / "net.xai.sig").write_bytes(SigningKey(folder / "own.pem").sign("net.xai", files))


ATTACKS: dict[Callable[[Path], None], str] = {
    unsigned: "is not signed, and a trusted key was given; its signature would be net.xai.sig beside it",
    signed_by_another: "another key made it",
    a_changed_byte: "changed since the bundle was written",
    a_changed_manifest: "is not the one that was signed",
    an_added_file: "is no part of the bundle that was signed; remove it",
    a_linked_file: "head.onnx: is a link; a bundle holds plain files only",
    an_added_folder: "more: is no part of the bundle that was signed; remove it",
    an_added_link: "more: is no part of the bundle that was signed; remove it",
    a_name_in_capitals: "HEAD.onnx: is no part of the bundle that was signed; remove it",
    a_linked_signature: r"net\.xai\.sig: is a link",
    a_key_that_is_no_line: r"another key made it \(\?\?\[31m\?\.\.\.\), not \S+ \(\w+\.\.\.\)$",
    a_removed_file: "the manifest lists it, but it is missing",
    a_changed_signature: "did not sign this; it was changed, or another key made it|is no signature of OpenSSF",
    a_signature_of_another_bundle: "is not the one that was signed",
}


def test_a_signed_bundle_opens(made: Path) -> None:
    explainer = Explainer(made / "net.xai", trusted_key=made / "own.pub")
    assert explainer.bundle.signature is not None
    pem = (made / "own.pub").read_bytes()
    assert explainer.bundle.signature.key == hashlib.sha256(pem).hexdigest()
    assert explainer.explain(str(made / "photo.png")).heatmap.shape[0] == 1
    assert Explainer(made / "net.xai").bundle.signature is None  # nobody asked


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused(attack: Callable[[Path], None], copied: Path) -> None:
    attack(copied)
    with pytest.raises(XaiError, match=ATTACKS[attack]):
        Explainer(copied / "net.xai", trusted_key=copied / "own.pub")


def test_another_key_is_refused(made: Path) -> None:
    with pytest.raises(SignatureError, match=r"net.xai.sig: another key made it \(.*\), not .*other.pub"):
        Explainer(made / "net.xai", trusted_key=made / "other.pub")


COMMANDS: dict[str, Callable[[str, str, str], tuple[Callable[[list[str]], int], list[str]]]] = {
    "xai-explain": lambda bundle, photo, out: (explain.main, [bundle, photo, "-o", out, "-q"]),
    "xai-evaluate": lambda bundle, photo, out: (evaluate.main, [bundle, photo, "-o", out, "-q"]),
    "xai-check": lambda bundle, photo, out: (check.main, [bundle, bundle, photo, "-q"]),
    "xai-bench": lambda bundle, photo, out: (bench.main, [bundle, "--runs", "1", "-q"]),
    "xai-serve": lambda bundle, photo, out: (serve.main, [f"net={bundle}", "--port", "0", "-q"]),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("attack", [unsigned, a_changed_manifest])
def test_every_command_refuses(
    attack: Callable[[Path], None], command: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    attack(copied)
    out = copied / "out"
    main, arguments = COMMANDS[command](str(copied / "net.xai"), str(copied / "photo.png"), str(out))
    assert main([*arguments, "--trusted-key", str(copied / "own.pub")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(errors) == 1
    assert ATTACKS[attack] in errors[0]
    assert not out.exists()


def test_nothing_is_read_before_the_signature(copied: Path) -> None:
    """xai-bench checks its targets against the manifest, which nobody may believe yet."""
    unsigned(copied)
    with pytest.raises(SignatureError, match="is not signed"):
        benchmark([copied / "net.xai"], targets=[10_000], trusted_key=str(copied / "own.pub"))


def test_what_model_signing_signed() -> None:
    """OpenSSF's own package, 1.1.1, signed a folder of two files."""
    folder = ROOT / "tests" / "runtime" / "format" / "signed"
    data = (folder / "model_signing.sig").read_bytes()
    signature = TrustedKey(folder / "public.pem").check(data, "x")
    assert signature.files == {
        "manifest.json": hashlib.sha256(b"{}\n").hexdigest(),
        "head.onnx": hashlib.sha256(b"abc").hexdigest(),
    }


def test_exports_that_are_signed(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*more: str) -> int:
        return xai_export.main([str(NETWORK), "--preprocess", "unit", "-o", str(tmp_path / "n.xai"), "-q", *more])

    own, other = str(made / "own.pem"), str(made / "other.pem")
    assert run("--sign", str(made / "own.pub")) == 2
    assert "holds no private key in PEM form" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert run("--sign", own, "--randomise", "1") == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 4
    assert all(f"{name}.sig" in names for name in names if name.endswith(".xai"))
    first = (tmp_path / "n.xai.sig").read_bytes()
    assert run("--sign", own) == 2
    assert "exists already; give --overwrite" in capsys.readouterr().err
    assert run("--sign", own, "--overwrite") == 0
    assert (tmp_path / "n.xai.sig").read_bytes() == first  # the same bytes twice
    assert run("--sign", other, "--overwrite") == 0
    Bundle.open(tmp_path / "n.xai", TrustedKey(made / "other.pub"))
    assert run("--overwrite") == 0  # not signed: the old signature is still another key's, and is refused
    shutil.rmtree(tmp_path / "n.xai")
    assert run("--sign", own) == 2
    assert "n.xai.sig: exists already" in capsys.readouterr().err
    assert not (tmp_path / "n.xai").exists()


def test_a_failed_replacement_keeps_bundles_and_signatures(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several signed bundles, one that can't be put in place takes all others back."""

    def run(key: str) -> int:
        arguments = [str(NETWORK), "--preprocess", "unit", "-o", str(tmp_path / "n.xai"), "-q", "--randomise", "1"]
        return xai_export.main([*arguments, "--sign", str(made / f"{key}.pem"), "--overwrite"])

    assert run("own") == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    real = places.put
    left = [3]  # both bundles and one signature move; the last one fails

    def put(staging: Path, path: Path) -> Path | None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(path))
        return real(staging, path)

    monkeypatch.setattr(places, "put", put)
    assert run("other") == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    Bundle.open(tmp_path / "n.xai", TrustedKey(made / "own.pub"))


def test_a_model_beside_a_trusted_key_is_refused(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(made / "net.xai"), "--model", str(NETWORK), "--trusted-key", str(made / "own.pub"), "-q"]
    assert bench.main(given) == 2
    assert "a model file is not signed, and a trusted key was given" in capsys.readouterr().err
    assert explain.main([str(NETWORK), str(made / "photo.png"), "--trusted-key", str(made / "own.pub"), "-q"]) == 2
    assert "a model file is not signed, and a trusted key was given" in capsys.readouterr().err


def test_keys_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = write_keys(tmp_path, "ed", ed25519.Ed25519PrivateKey.generate())
    for key, file in ((SigningKey, private), (TrustedKey, public)):
        with pytest.raises(KeyFileError, match=r"is another kind of key .*; give an elliptic-curve key on P-256"):
            key(file)
    locked, _ = write_keys(tmp_path, "locked", ec.generate_private_key(ec.SECP521R1()), b"secret")
    monkeypatch.delenv(PASSWORD, raising=False)
    with pytest.raises(KeyFileError, match=f"is encrypted; put its password into the environment variable {PASSWORD}"):
        SigningKey(locked)
    monkeypatch.setenv(PASSWORD, "wrong")
    with pytest.raises(KeyFileError, match="can't be decrypted"):
        SigningKey(locked)
    monkeypatch.setenv(PASSWORD, "secret")
    signed = SigningKey(locked).sign("n", {"manifest.json": "0" * 64})
    assert TrustedKey(tmp_path / "locked.pub").check(signed, "x").files == {"manifest.json": "0" * 64}
    with pytest.raises(KeyFileError, match="is a private key; give the public one"):
        TrustedKey(locked)
    (tmp_path / "text.pem").write_text("no key")
    for bad in (tmp_path / "text.pem", tmp_path / "missing.pem"):
        with pytest.raises(KeyFileError, match=r"holds no public key in PEM form|can't be read \(No such file"):
            TrustedKey(bad)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of POSIX")
def test_a_key_from_a_pipe(tmp_path: Path) -> None:
    """Without a writer it holds no key, and nothing waits for one; `--trusted-key <(command)` is read to its end."""
    os.mkfifo(tmp_path / "key.pub")
    with pytest.raises(KeyFileError, match="holds no public key in PEM form"):
        TrustedKey(tmp_path / "key.pub")
    reads, writes = os.pipe()
    os.write(writes, b"no key")
    os.close(writes)
    assert signature._key_bytes(Path(f"/dev/fd/{reads}")) == b"no key"
    os.close(reads)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"dsseEnvelope": 3}', b"\xff" * 20, b"[" * 100_000])
def test_files_that_are_no_signatures(data: bytes, made: Path) -> None:
    with pytest.raises(SignatureError, match=r"x: is no signature of OpenSSF Model Signing 1\.0"):
        TrustedKey(made / "own.pub").check(data, "x")
