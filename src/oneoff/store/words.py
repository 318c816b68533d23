"""Commands and entrypoints in a column: a JSON string or list. Called by `runs` and `jobs`.

Runs of one job have the same ones, so they are remembered.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1024)
def read_words(text: str) -> Any:
    """A JSON string, or a JSON list as a tuple."""
    words = json.loads(text)
    return words if isinstance(words, str) else tuple(words)


@lru_cache(maxsize=1024)
def write_words(words: str | tuple[str, ...]) -> str:
    return json.dumps(words)
