"""Boxes for what must not lie readable in the store: variables and registry passwords.

Used by the operations and the engine.

A box is `version (1 byte) | nonce (12) | AES-256-GCM ciphertext and tag`; its associated data names the row and column
it belongs to, so a box moved to another row does not open. The key lies in the data folder (`secret.key`, mode 0600).
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from oneoff.chance import take
from oneoff.errors import SettingsInvalid, WrongSecretKey

_VERSION = b"\x01"
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Sealer:
    """Seals and opens with one key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, place: str) -> bytes:
        """A box for `plain` that opens only at `place` ("runs/run-…/variables")."""
        nonce = take(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, place.encode())

    def open(self, box: bytes, place: str) -> bytes:
        """Raises WrongSecretKey when the key or the place is not the one it was sealed with, or the box is damaged."""
        body = box[1:]
        try:
            return self._cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError) as problem:  # "Nonce must be between 8 and 128 bytes" of one that was cut
            raise WrongSecretKey(place) from problem


def load_key(path: Path) -> bytes:
    """The key of this installation, made at first start."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise SettingsInvalid(
                [f"{path} is damaged: it must have {_KEY_BYTES} bytes; restore it from a backup"]
            ) from None
        return key
    with os.fdopen(fd, "wb") as file:
        key = os.urandom(_KEY_BYTES)
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key
