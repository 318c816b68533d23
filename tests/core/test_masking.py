"""Declared secrets are hidden wherever the pieces of a stream are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from oneoff.core.masking import Masker

SECRETS = [b"hunter2-hunter2", b"abcabcabd", b"abdefgh", b"short"]


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


def whole(data: bytes) -> bytes:
    masker = Masker(SECRETS)
    return masker.feed(data) + masker.feed(b"") + masker.flush()


@given(st.text("abcdefgh").map(str.encode), st.lists(st.integers(0, 1000)))
def test_where_the_pieces_are_cut_makes_no_difference(noise: bytes, cuts: list[int]) -> None:
    data = noise + SECRETS[0] + noise[::-1] + SECRETS[1] + b"efgh" + noise
    masker = Masker(SECRETS)
    shown = b"".join(masker.feed(piece) for piece in pieces_of(data, cuts)) + masker.flush()
    assert shown == whole(data)
    assert len(shown) == len(data)
    assert not any(secret in shown for secret in SECRETS[:3])


@given(st.lists(st.tuples(st.text("abcdefg", max_size=5).map(str.encode), st.booleans())))
def test_a_flush_never_shows_more_than_the_first_bytes_of_a_secret(fed: list[tuple[bytes, bool]]) -> None:
    masker, shown, data = Masker(SECRETS), b"", b""
    for piece, flushes in fed:
        data += piece
        shown += masker.feed(piece) + (masker.flush() if flushes else b"")
    shown += masker.flush()
    assert len(shown) == len(data)
    assert not any(secret[:6] in shown and secret in data for secret in SECRETS[:3] if data.count(secret[:6]) == 1)


def test_overlapping_secrets_are_hidden_together() -> None:
    assert whole(b"abcabcabdefgh.") == b"*" * 13 + b"."


def test_short_values_are_left_alone() -> None:
    assert whole(b"a short word") == b"a short word"


def test_what_may_begin_a_secret_waits_and_comes_out_when_it_does_not() -> None:
    masker = Masker([b"hunter2-hunter2"])
    assert masker.feed(b"the hunt") == b"the "
    assert masker.held == 4
    assert masker.feed(b"ress") == b"huntress"


def test_a_secret_whose_beginning_was_flushed_is_hidden_in_its_rest() -> None:
    masker = Masker([b"hunter2-hunter2"])
    assert masker.feed(b"pw: hunt") + masker.flush() == b"pw: hunt"
    assert masker.feed(b"er2-hunter2\n") == b"*" * 11 + b"\n"
