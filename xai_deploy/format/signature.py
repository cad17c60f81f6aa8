"""A bundle's signature: `NAME.xai.sig` beside the folder, in the format of OpenSSF Model Signing 1.0.

https://github.com/sigstore/model-transparency. It is a Sigstore bundle in JSON. It holds a DSSE envelope, which holds an in-toto
statement with the sha256 of every file. `model_signing verify key` checks what `sign` writes, and `TrustedKey` what
`model_signing sign key` writes.

The manifest is one of the signed files and records the sha256 of all others. So whoever has compared the bytes of the manifest
with the signature, and then reads files through `Bundle.read`, reads signed bytes only, whatever happens to the folder meanwhile.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BackendNotInstalledError, KeyFileError, SignatureError
from ..foundation.paths import path_of
from ..foundation.printable import printable

SUFFIX = ".sig"
LIMIT = 4 << 20  # bytes of a signature; that of a bundle with 1024 files has 300 kB
PASSWORD = "XAI_SIGN_PASSWORD"
"""The environment variable with the password of an encrypted private key."""

_SIGSTORE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_CURVES = "an elliptic-curve key on P-256, P-384 or P-521"
_KEY_LIMIT = 1 << 16  # bytes


@dataclass(frozen=True)
class Signature:
    """A signature that a trusted key has made.

    Attributes:
        file: Its path.
        key: The sha256 of the public key, in hexadecimal: that of its PEM file as OpenSSL writes it.
        sha256: The sha256 of the file.
        files: The signed files -> sha256.
    """

    file: str
    key: str
    sha256: str
    files: Mapping[str, str]


class TrustedKey:
    """A public key whose owner is trusted.

    Args:
        path: Its PEM file.

    Attributes:
        path: The same.
        name: The sha256 of the key, see `Signature.key`.

    Raises:
        KeyFileError: The file can't be read, or holds no public key on one of the three curves.
        BackendNotInstalledError: The package cryptography is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        crypto, self.path = _Crypto(), str(path_of(path, "the trusted key", KeyFileError))
        data = _key_bytes(Path(self.path))
        if b"PRIVATE KEY-----" in data:
            raise KeyFileError(f"{self.path}: is a private key; give the public one: openssl pkey -in KEY.pem -pubout")
        try:
            self._key = crypto.serialization.load_pem_public_key(data)
        except Exception:  # ValueError, and others that the package does not document
            raise KeyFileError(f"{self.path}: holds no public key in PEM form; give {_CURVES}") from None
        self._hash = crypto.hash_of(self._key, self.path)
        self.name = crypto.name_of(self._key)

    def check(self, data: bytes, where: str) -> Signature:
        """The files that a signature names, if this key has signed them.

        Args:
            data: The bytes of the signature's file.
            where: Its path.

        Raises:
            SignatureError: Another key made it, it was changed, or it is not one of this format.
        """
        crypto = _Crypto()
        try:
            document = json.loads(data)
            material, envelope = document["verificationMaterial"], document["dsseEnvelope"]
            hint = material.get("publicKey", {}).get("hint") or self.name
            payload = base64.b64decode(envelope["payload"], validate=True)
            [entry] = envelope["signatures"]
            made = base64.b64decode(entry["sig"], validate=True)
            known = document["mediaType"] == _SIGSTORE and envelope["payloadType"] == _PAYLOAD
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            known = False
        if not known:
            raise SignatureError(f"{where}: is no signature of OpenSSF Model Signing 1.0; have the bundle signed again")
        if hint != self.name:
            raise SignatureError(
                f"{where}: another key made it ({printable(str(hint)[:16])}...), not {self.path} ({self.name[:16]}...)"
            )
        try:
            self._key.verify(made, _encoded(payload), crypto.ec.ECDSA(self._hash))
        except crypto.InvalidSignature:
            raise SignatureError(
                f"{where}: {self.path} did not sign this; it was changed, or another key made it"
            ) from None
        return Signature(where, self.name, hashlib.sha256(data).hexdigest(), _files(payload, where))


def signature_path(bundle: Path) -> Path:
    """Where a bundle's signature lies: beside the folder; if the path is a link to a folder, beside that."""
    folder = Path(os.path.realpath(bundle))
    return folder.with_name(folder.name + SUFFIX)


class SigningKey:
    """A private key that signs bundles.

    Args:
        path: Its PEM file. If it is encrypted, the environment variable `PASSWORD` holds its password.

    Raises:
        KeyFileError: The file can't be read or decrypted, or holds no private key on one of the three curves.
        BackendNotInstalledError: The package cryptography is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        crypto, where = _Crypto(), str(path_of(path, "the private key", KeyFileError))
        data, password = _key_bytes(Path(where)), os.environ.get(PASSWORD)
        if b"PRIVATE KEY-----" not in data:
            raise KeyFileError(f"{where}: holds no private key in PEM form; give {_CURVES}")
        encrypted = b"ENCRYPTED" in data
        if encrypted and not password:
            raise KeyFileError(f"{where}: is encrypted; put its password into the environment variable {PASSWORD}")
        try:
            self._key = crypto.serialization.load_pem_private_key(
                data, password.encode() if encrypted and password else None
            )
        except Exception:
            why = (
                f"can't be decrypted with the password in {PASSWORD}"
                if encrypted
                else "holds no private key in PEM form"
            )
            raise KeyFileError(f"{where}: {why}; give {_CURVES}") from None
        self._hash = crypto.hash_of(self._key, where)
        self.name = crypto.name_of(self._key.public_key())

    def sign(self, name: str, files: Mapping[str, str]) -> bytes:
        """A signature. The same key and files give the same bytes (RFC 6979).

        Args:
            name: The bundle's name.
            files: Every file in its folder -> sha256.
        """
        listed = [{"name": file, "algorithm": "sha256", "digest": files[file]} for file in sorted(files)]
        whole = hashlib.sha256(b"".join(bytes.fromhex(files[file]) for file in sorted(files))).hexdigest()
        statement = {
            "_type": _STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": whole}}],
            "predicateType": _PREDICATE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [],
                },
                "resources": listed,
            },
        }
        payload = json.dumps(statement, indent=1).encode()
        how = _Crypto().ec.ECDSA(self._hash, deterministic_signing=True)
        document = {
            "mediaType": _SIGSTORE,
            "verificationMaterial": {"publicKey": {"hint": self.name}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": _PAYLOAD,
                "signatures": [{"sig": base64.b64encode(self._key.sign(_encoded(payload), how)).decode(), "keyid": ""}],
            },
        }
        return (json.dumps(document, indent=1) + "\n").encode()


class _Crypto:
    """What is used of the package cryptography.

    Raises:
        BackendNotInstalledError: It is missing.
    """

    def __init__(self) -> None:
        try:
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives import hashes, serialization
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError:
            raise BackendNotInstalledError(
                "signatures need the package cryptography, which is not installed; pip install 'xai-deploy[sign]'"
            ) from None
        self.InvalidSignature: type[Exception] = InvalidSignature
        self.hashes: Any = hashes
        self.serialization: Any = serialization
        self.ec: Any = ec

    def hash_of(self, key: Any, where: str) -> Any:
        """The hash function that belongs to a key's curve.

        Raises:
            KeyFileError: The key is of another kind.
        """
        curve = getattr(getattr(key, "curve", None), "name", None)
        if curve not in _HASHES:
            kind = f"a key on {curve}" if curve else f"another kind of key ({type(key).__name__.strip('_')})"
            raise KeyFileError(f"{where}: is {kind}; give {_CURVES}")
        return getattr(self.hashes, _HASHES[curve])()

    def name_of(self, public: Any) -> str:
        """The sha256 of a public key's PEM form."""
        form = self.serialization
        return hashlib.sha256(
            public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        ).hexdigest()


def _encoded(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding. https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md"""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _files(payload: bytes, where: str) -> dict[str, str]:
    """The files of a statement that was signed -> sha256.

    Raises:
        SignatureError: It does not state the sha256 of single files.
    """
    try:
        statement = json.loads(payload)
        predicate = statement["predicate"]
        listed = [(entry["name"], entry["algorithm"], entry["digest"]) for entry in predicate["resources"]]
        kinds = statement["_type"], statement["predicateType"], predicate["serialization"]["method"]
        files = {str(name): str(digest) for name, _, digest in listed}
        fits = kinds == (_STATEMENT, _PREDICATE, "files") and len(files) == len(listed)
        fits = fits and all(algorithm == "sha256" for _, algorithm, _ in listed)
    except (ValueError, KeyError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise SignatureError(f"{where}: does not state the sha256 of each file; sign with the method files and sha256")
    return files


def _key_bytes(path: Path) -> bytes:
    # O_NONBLOCK: opening a named pipe does not wait for a writer. Reading waits for one that is there, as for `<(command)`.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as file:
            if sys.platform != "win32":
                os.set_blocking(file.fileno(), True)
            return file.read(_KEY_LIMIT)
    except OSError as error:
        raise KeyFileError(f"{path}: the key can't be read ({error.strerror})") from None
