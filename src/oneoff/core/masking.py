"""Hides declared secrets in a stream of bytes that comes in pieces. Pure; used where logs are shown, never stored.

Each byte of a secret becomes one `*`, so lengths and positions stay those of the log.
"""

from __future__ import annotations

from collections.abc import Iterable

SHORTEST = 6  # bytes; shorter values occur by chance


class Masker:
    """Of one stream. What it returns is settled; the end of what it was fed may be the beginning of a secret, and is
    kept back until more comes, or `flush`."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        self._secrets = sorted({secret for secret in secrets if len(secret) >= SHORTEST})
        self._open = b""  # raw bytes at the end that may begin a secret
        self._given = 0  # how many of them a flush has given away
        self._stars: list[tuple[int, int]] = []  # ranges of `_open` that are hidden in any case

    @property
    def held(self) -> int:
        """How many of the bytes fed are not settled yet."""
        return len(self._open) - self._given

    def feed(self, data: bytes) -> bytes:
        """Settled bytes from the front of all that was fed and not returned."""
        raw = self._open + data
        stars = self._stars + self._find(raw)
        begin = len(raw) - self._longest_open(raw)
        return self._give(raw, stars, begin, max(begin, self._given))

    def flush(self) -> bytes:
        """The rest, now. The beginning of a secret is hidden when it is long enough to tell something of it; its end
        is still recognised when it comes."""
        raw, stars = self._open, self._stars
        if len(raw) >= SHORTEST:
            stars = [*stars, (0, len(raw))]
        return self._give(raw, stars, 0, len(raw))

    def _give(self, raw: bytes, stars: list[tuple[int, int]], begin: int, settled: int) -> bytes:
        shown = _hide(raw, stars)[self._given : settled] if stars else raw[self._given : settled]
        self._open = raw[begin:]
        self._given = settled - begin
        self._stars = [(max(0, first - begin), last - begin) for first, last in stars if last > begin]
        return shown

    def _find(self, raw: bytes) -> list[tuple[int, int]]:
        return [(at, at + len(secret)) for secret in self._secrets for at in _occurrences(raw, secret)]

    def _longest_open(self, raw: bytes) -> int:
        return max((_longest_beginning(raw, secret) for secret in self._secrets), default=0)


def _hide(raw: bytes, stars: list[tuple[int, int]]) -> bytes:
    hidden = bytearray(raw)
    for first, last in stars:
        hidden[first:last] = b"*" * (last - first)
    return bytes(hidden)


def _occurrences(raw: bytes, secret: bytes) -> Iterable[int]:
    at = raw.find(secret)
    while at >= 0:
        yield at
        at = raw.find(secret, at + 1)


def _longest_beginning(raw: bytes, secret: bytes) -> int:
    """Bytes of the longest beginning of `secret`, but not all of it, at the end of `raw`."""
    at = raw.find(secret[:1], max(0, len(raw) - len(secret) + 1))
    while at >= 0:
        if secret.startswith(raw[at:]):
            return len(raw) - at
        at = raw.find(secret[:1], at + 1)
    return 0
