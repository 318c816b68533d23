"""Time zones by name."""

from __future__ import annotations

import pytest

from oneoff.errors import UnknownTimeZone
from oneoff.zones import find_zone


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_a_zone_is_found_by_its_name(name: str) -> None:
    assert find_zone(name).key == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berlni", "Europe/Berlin"),
        ("", "such as Europe/Berlin"),
        ("../../etc/passwd", "no time zone"),
        ("/etc/localtime", "no time zone"),
        ("Europe", "no time zone"),
        ("Europe/\0Berlin", "no time zone"),
        ("x" * 5000, "no time zone"),
    ],
)
def test_another_name_is_refused_with_a_hint(name: str, words: str) -> None:
    with pytest.raises(UnknownTimeZone) as caught:
        find_zone(name)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400
