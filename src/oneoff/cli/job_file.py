"""A job file, read into what the API takes, with the place of each part in the file. Used by `oneoff apply`.

Form only, and every problem of it at once; the server knows the rules. Scalars are taken as they are written: `8080`,
`yes` and `08:00` are texts where a text belongs.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from oneoff.cli.job_file_keys import CRON, FILE, JOB, RETENTION, RETRIES, SYNONYMS, Key
from oneoff.core.limits import parse_duration
from oneoff.errors import InvalidDuration

_NO_SECRETS = (
    "secrets are not for files: `oneoff env set {service} {name}=…` gives it to all runs of the service, "
    "{{from_env: NAME}} takes it from the environment of `oneoff apply`"
)
_YES, _NO = {"true", "yes", "on"}, {"false", "no", "off"}


@dataclass(frozen=True, slots=True)
class Problem:
    line: int
    column: int
    text: str


@dataclass
class ReadFile:
    """`body` is without what has problems; `places`: part of the body, such as jobs.3.crons.0.expression -> line and
    column."""

    body: dict[str, Any] = field(default_factory=dict)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def find_place(self, part: str) -> tuple[int, int]:
        """Of the part, or of the nearest that it is in."""
        names = part.split(".")
        for length in range(len(names), 0, -1):
            if (place := self.places.get(".".join(names[:length]))) is not None:
                return place
        return 1, 1


def read_job_file(text: str, service: str | None, environment: Mapping[str, str]) -> ReadFile:
    """`service` takes the place of the file's own; `environment` is where secrets come from."""
    found = ReadFile()
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        found.problems.append(Problem(line, column, _complain(problem)))
        return found
    except yaml.YAMLError as problem:
        found.problems.append(Problem(1, 1, f"this is no YAML: {problem}".splitlines()[0]))
        return found
    except RecursionError:
        found.problems.append(Problem(1, 1, "this is no job file: its parts lie within each other far too deep"))
        return found
    _Reader(found, loader, service, environment).read(root)
    return found


class _Wrong(Exception):
    """One problem; the part it is in is left out."""

    def __init__(self, node: Node, text: str) -> None:
        self.node = node
        self.text = text


class _Reader:
    def __init__(self, found: ReadFile, loader: Any, service: str | None, environment: Mapping[str, str]) -> None:
        self._found = found
        self._loader = loader
        self._service = service
        self._environment = environment

    def read(self, root: Node | None) -> None:
        if root is None:
            self._found.problems.append(Problem(1, 1, "the file is empty: it needs service: and jobs:"))
            return
        parts = dict(self._take(root, FILE, "the file", allow="x-"))
        body = self._found.body
        if "service" in parts:
            body["service"] = self._one("service", parts["service"], self._text)
        if self._service is not None:
            body["service"] = self._service
        if body.get("service") is None:
            say = "service: is missing: write the path of the service, such as shop/production, or give --service"
            self._found.problems.append(Problem(1, 1, say))
        self._service = body.get("service") or "PATH"
        groups = self._entries(parts["groups"], "groups: is a mapping of names to limits") if "groups" in parts else []
        body["groups"] = {name: self._one(f"groups.{name}", node, self._number) for name, _, node in groups}
        body["groups"] = {name: limit for name, limit in body["groups"].items() if limit is not None}
        jobs = self._entries(parts["jobs"], "jobs: is a mapping of names to jobs") if "jobs" in parts else []
        body["jobs"] = []
        for name, key, node in jobs:
            self._read_job(name, key, node)

    def _read_job(self, name: str, key: Node, node: Node) -> None:
        """A job with any problem is left out, so that the server tells no consequences of it."""
        before = len(self._found.problems)
        place = f"jobs.{len(self._found.body['jobs'])}"
        self._mark(place, key)
        path, _, own = name.rpartition(":")
        job: dict[str, Any] = {"service": path or self._service, "name": own}
        self._mark(f"{place}.name", key)
        for part, value in self._take(node, JOB, f"job {name}"):
            spec = JOB[part]
            self._mark(f"{place}.{spec.field}", value)
            job[spec.field] = self._one(None, value, getattr(self, f"_{spec.kind}"), f"{place}.{spec.field}")
        if len(self._found.problems) == before:
            if "command" not in job and "shell" not in job:
                self._problem(key, f"job {name} has no command: give command: [a, list] or shell: a text")
            else:
                self._found.body["jobs"].append(job)
                return
        for part in [each for each in self._found.places if each.startswith(f"{place}.")]:
            del self._found.places[part]  # the next job has this number

    def _take(self, node: Node, keys: Mapping[str, Key], what: str, allow: str = "") -> list[tuple[str, Node]]:
        """The known parts of a mapping; unknown ones are problems that name the nearest known one."""
        taken = []
        for name, key, value in self._entries(node, f"{what} is a mapping of {', '.join(keys)}"):
            if name in keys:
                taken.append((name, value))
            elif not (allow and name.startswith(allow)):
                near = SYNONYMS.get(name, "")
                close = [near] if near in keys else difflib.get_close_matches(name, keys, 1, 0.5)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(keys)}"
                self._problem(key, f"{what} has no {name!r}: {hint}")
        return taken

    def _entries(self, node: Node, form: str) -> list[tuple[str, Node, Node]]:
        """Name, key and value; what is there twice, and what is no mapping, is a problem. `<<` merges, as YAML says."""
        if not isinstance(node, MappingNode):
            if not (isinstance(node, ScalarNode) and node.tag.endswith(":null")):
                self._problem(node, form)
            return []
        own = [key.value for key, _ in node.value if isinstance(key, ScalarNode)]
        for number, (key, _) in enumerate(node.value):
            if isinstance(key, ScalarNode) and key.value in own[:number]:
                self._problem(key, f"{key.value!r} is there twice")
        try:
            self._loader.flatten_mapping(node)
        except yaml.MarkedYAMLError as problem:
            self._problem(node, _complain(problem))
            return []
        merged = {key.value: (key, value) for key, value in node.value if isinstance(key, ScalarNode)}
        return [(name, key, value) for name, (key, value) in merged.items()]

    def _one(self, place: str | None, node: Node, read: Any, *more: Any) -> Any:
        """What `read` makes of it; None, and a problem, when it cannot."""
        if place is not None:
            self._mark(place, node)
        try:
            return read(node, *more)
        except _Wrong as wrong:
            self._problem(wrong.node, wrong.text)
            return None

    def _text(self, node: Node, _place: str = "") -> str:
        if not isinstance(node, ScalarNode) or (node.tag.endswith(":null") and not node.value):
            raise _Wrong(node, "a text belongs here")
        return str(node.value)

    def _number(self, node: Node, _place: str = "") -> int:
        text = self._text(node)
        if not text.isascii() or not text.isdigit():
            raise _Wrong(node, f"{text!r} is no whole number")
        return int(text)

    def _numbers(self, node: Node, _place: str = "") -> list[int]:
        return [self._number(each) for each in self._list_of(node)]

    def _flag(self, node: Node, _place: str = "") -> bool:
        text = self._text(node).lower()
        if text not in _YES | _NO:
            raise _Wrong(node, f"{text!r} is neither true nor false")
        return text in _YES

    def _duration(self, node: Node, _place: str = "") -> int:
        try:
            return parse_duration(self._text(node))
        except InvalidDuration as problem:
            raise _Wrong(node, str(problem)) from None

    def _words(self, node: Node, _place: str = "") -> list[str]:
        if isinstance(node, ScalarNode):
            raise _Wrong(node, "a list belongs here: [python, manage.py, migrate]; a text for /bin/sh is shell:")
        return [self._text(each) for each in self._list_of(node)]

    def _names(self, node: Node, _place: str = "") -> list[str]:
        return [self._text(each) for each in self._list_of(node)]

    def _entrypoint(self, node: Node, _place: str = "") -> str | list[str]:
        return self._text(node) if isinstance(node, ScalarNode) else self._names(node)

    def _list_of(self, node: Node) -> list[Node]:
        if not isinstance(node, SequenceNode):
            raise _Wrong(node, "a list belongs here")
        return list(node.value)

    def _retries(self, node: Node, place: str) -> dict[str, Any]:
        """`retries: 3` is a count alone."""
        if isinstance(node, ScalarNode):
            return {"count": self._number(node)}
        retries = self._fields(node, RETRIES, "retries", place)
        if "delay_seconds" in retries and retries["delay_seconds"] is not None:
            retries.setdefault("most_delay_seconds", max(retries["delay_seconds"], 3600))
        return retries

    def _retention(self, node: Node, place: str) -> dict[str, Any]:
        return self._fields(node, RETENTION, "retention", place)

    def _fields(self, node: Node, keys: Mapping[str, Key], what: str, place: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for part, value in self._take(node, keys, what):
            spec = keys[part]
            made[spec.field] = self._one(f"{place}.{spec.field}", value, getattr(self, f"_{spec.kind}"), place)
        return made

    def _variables(self, node: Node, place: str) -> dict[str, Any]:
        made = {}
        for name, key, value in self._entries(node, "variables: is a mapping of names to values"):
            self._mark(f"{place}.{name}", key)
            made[name] = self._one(None, value, self._variable, name)
        return made

    def _variable(self, node: Node, name: str) -> Any:
        if isinstance(node, ScalarNode):
            return "" if node.value == "" and node.style else self._text(node)
        if not isinstance(node, MappingNode):
            raise _Wrong(node, f"variable {name} is a text, or {{from_env: NAME}}")
        entries = [(key, value) for key, _, value in self._entries(node, "")]
        if [key for key, _ in entries] != ["from_env"]:
            raise _Wrong(node, f"variable {name}: {_NO_SECRETS.format(service=self._service, name=name)}")
        source = self._text(entries[0][1])
        if source not in self._environment:
            raise _Wrong(entries[0][1], f"the environment of `oneoff apply` has no variable {source}")
        return {"value": self._environment[source], "secret": True}

    def _crons(self, node: Node, place: str) -> list[dict[str, Any]]:
        """`nightly: "30 2 * * *"` is a schedule alone."""
        made: list[dict[str, Any]] = []
        for name, key, value in self._entries(node, "crons: is a mapping of names to schedules"):
            at = f"{place}.{len(made)}"
            self._mark(at, key)
            self._mark(f"{at}.name", key)
            if isinstance(value, ScalarNode) and not value.tag.endswith(":null"):
                self._mark(f"{at}.expression", value)
                cron = {"expression": value.value}
            else:
                cron = self._fields(value, CRON, f"cron {name}", at)
                if "expression" not in cron:
                    self._problem(key, f'cron {name} has no schedule: write schedule: "30 2 * * *"')
            made.append({"name": name, **cron})
        return made

    def _mark(self, place: str, node: Node) -> None:
        self._found.places[place] = (node.start_mark.line + 1, node.start_mark.column + 1)

    def _problem(self, node: Node, text: str) -> None:
        self._found.problems.append(Problem(node.start_mark.line + 1, node.start_mark.column + 1, text))


def _complain(problem: yaml.MarkedYAMLError) -> str:
    said = " ".join(str(each) for each in (problem.context, problem.problem) if each)
    if "cannot start any token" in said:
        return f"this is no YAML: {problem.problem}: put the text in quotes"
    return f"this is no YAML: {said}"
