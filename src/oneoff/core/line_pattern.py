"""Regular expressions in time that grows with the text alone, whatever the expression: all ways are followed at once,
and each step that was made is remembered. Pure; `log_filter` searches lines with them.

Python's own matcher tries one way after another and holds the whole process meanwhile: `(a?){30}a{30}` takes it hours.
Its parser is used, and its matcher for single characters, so that an expression means what it means to Python. They
lie in private modules of `re`, as there is no public way: `re.compile` gives no tree, `sre_parse` is deprecated, and a
parser of our own, or another library such as RE2, would read classes, flags and `$` in its own way. A property test
holds this to `re`, and so tells on each version of Python whether those modules are as they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from re import _compiler, _constants, _parser  # type: ignore[attr-defined]
from typing import Any

_MOST_NODES = 1_000
_MOST_KEPT = 20_000  # of steps, those to many nodes counted for more
_END = ""  # what stands behind the last character
_ONE_CHARACTER = (_constants.LITERAL, _constants.NOT_LITERAL, _constants.ANY, _constants.IN)
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)

Test = Callable[[str], object]


class TooComplex(Exception):
    """It looks around, refers back, or is too long with its repeats written out."""


@dataclass(slots=True)
class _Node:
    """With `test` it takes a character. With `place` it is passed only there. Else it is passed freely."""

    following: list[int] = field(default_factory=list)
    test: Test | None = None
    place: Any = None


@dataclass(slots=True, eq=False)
class _State:
    """Nodes that were reached, and whether behind a character of a word: None at the beginning. `steps` are those made
    from here, by character; None where it has matched."""

    nodes: frozenset[int]
    is_behind_word: bool | None
    steps: dict[str, _State | None] = field(default_factory=dict)


class LinePattern:
    """Of a text without newlines."""

    def __init__(self, pattern: str) -> None:
        """Raises re.error, OverflowError, RecursionError, TooComplex."""
        parsed = _parser.parse(pattern)
        self._parsed = parsed
        self._nodes = [_Node()]  # the first is passed when all has matched
        self._tests: dict[tuple[str, int], Test] = {}
        self._first = self._add_all(parsed, parsed.state.flags, 0)
        self._known: dict[tuple[frozenset[int], bool | None], _State] = {}
        self._room = _MOST_KEPT

    def is_in(self, text: str) -> bool:
        state = self._state_of(frozenset([self._first]), None)
        for character in (*text, _END):
            try:
                after = state.steps[character]
            except KeyError:
                after = self._remember(state, character)
            if after is None:
                return True
            state = after
        return False

    def _remember(self, state: _State, character: str) -> _State | None:
        if self._room <= 0:
            self._room = _MOST_KEPT
            for each in self._known.values():
                each.steps.clear()
            self._known.clear()
        state.steps[character] = after = self._step(state, character)
        self._room -= 1 if after is None else 1 + len(after.nodes) // 8
        return after

    def _state_of(self, nodes: frozenset[int], is_behind_word: bool | None) -> _State:
        if (known := self._known.get((nodes, is_behind_word))) is None:
            known = self._known[nodes, is_behind_word] = _State(nodes, is_behind_word)
        return known

    def _step(self, state: _State, character: str) -> _State | None:
        """None when it has matched before this character."""
        reached = self._reach(state, character)
        if 0 in reached:
            return None
        nodes = {self._first}  # a match may begin at each character
        for number in reached:
            node = self._nodes[number]
            if node.test is not None and character != _END and node.test(character):
                nodes.update(node.following)
        return self._state_of(frozenset(nodes), _is_word(character))

    def _reach(self, state: _State, character: str) -> set[int]:
        """The nodes from which it goes on here, without taking a character."""
        reached: set[int] = set()
        waiting = list(state.nodes)
        while waiting:
            number = waiting.pop()
            if number in reached:
                continue
            reached.add(number)
            node = self._nodes[number]
            if node.test is None and (node.place is None or _is_at(node.place, state.is_behind_word, character)):
                waiting += node.following
        return reached

    def _new(self, following: Iterable[int], test: Test | None = None, place: Any = None) -> int:
        if len(self._nodes) >= _MOST_NODES:
            raise TooComplex
        self._nodes.append(_Node(list(following), test, place))
        return len(self._nodes) - 1

    def _add_all(self, items: Any, flags: int, following: int) -> int:
        """From behind: each knows what follows it. Returns where it begins."""
        for operation, value in reversed(list(items)):
            following = self._add(operation, value, flags, following)
        return following

    def _add(self, operation: Any, value: Any, flags: int, following: int) -> int:
        if operation in _ONE_CHARACTER:
            return self._new([following], test=self._test_of(operation, value, flags))
        if operation is _constants.AT:
            return self._new([following], place=value)
        if operation is _constants.BRANCH:
            return self._new([self._add_all(branch, flags, following) for branch in value[1]])
        if operation is _constants.SUBPATTERN:
            _, more, less, items = value
            return self._add_all(items, (flags | more) & ~less, following)
        if operation in _REPEATS:
            least, most, repeated = value
            return self._repeat(least, most, repeated, flags, following)
        raise TooComplex

    def _repeat(self, least: int, most: int, items: Any, flags: int, following: int) -> int:
        begin = following
        if most is _constants.MAXREPEAT:
            begin = self._new([following])
            self._nodes[begin].following.append(self._add_all(items, flags, begin))
        else:
            for _ in range(most - least):
                begin = self._new([self._add_all(items, flags, begin), following])
        for _ in range(least):
            begin = self._add_all(items, flags, self._new([begin]))
        return begin

    def _test_of(self, operation: Any, value: Any, flags: int) -> Test:
        known = str((operation, value)), flags
        if known not in self._tests:
            one = _parser.SubPattern(self._parsed.state, [(operation, value)])
            self._tests[known] = _compiler.compile(one, flags).fullmatch
        return self._tests[known]


def _is_at(place: Any, is_behind_word: bool | None, character: str) -> bool:
    if place in (_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING):
        return is_behind_word is None
    if place in (_constants.AT_END, _constants.AT_END_STRING):
        return character == _END
    is_boundary = bool(is_behind_word) is not _is_word(character)
    return is_boundary if place is _constants.AT_BOUNDARY else not is_boundary


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def compile_pattern(pattern: str) -> LinePattern:
    """Raises ValueError with what is wrong, TooComplex."""
    try:
        return LinePattern(pattern)
    except (re.error, OverflowError) as problem:
        raise ValueError(str(problem)) from None
    except RecursionError:
        raise TooComplex from None
