"""Random bytes are given out once, to whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from oneoff.chance import take


def test_no_bytes_are_given_twice_whichever_thread_asks() -> None:
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: take(8), range(5_000)))
    assert len(set(taken)) == len(taken)
    assert {len(each) for each in taken} == {8}
