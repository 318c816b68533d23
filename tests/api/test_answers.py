"""What is answered as JSON, whoever writes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oneoff.api.answers import to_json
from oneoff.core.run import RunStatus


@pytest.mark.parametrize(
    "value",
    [
        {"a": [None, True, 1, -0.5, "x", ("y",), {}], "b": '"\\ \n\x00 </script>'},
        {"command": ["grüße", "\u2028", "😀"]},
        {"half a character": "\ud83d"},
        {"more than 64 bits": 2**70},
        {"status": RunStatus.FAILED},
    ],
)
def test_json_is_compact_and_in_ascii(value: Any) -> None:
    assert to_json(value) == json.dumps(value, separators=(",", ":")).encode()
