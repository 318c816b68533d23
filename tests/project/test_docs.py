"""The pages in docs/ and the README are true where a program can tell: links, command lines, names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from oneoff import errors
from oneoff.cli.main import cli
from oneoff.core.run import REASONS, Reason, RunStatus, Trigger
from oneoff.settings import SETTINGS, environment_name

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("examples/*/README.md")])
GENERATED = {"cli.md", "api.md", "errors.md", "settings.md", "states.md", "events.md", "metrics.md"}
WRITTEN = [page for page in PAGES if page.name not in GENERATED]

# The words of the product that exist, or are promised; each has its line in concepts.md.
GLOSSARY = {
    "workspace", "project", "environment", "service", "deploy", "live image", "command", "variable", "run",
    "job", "batch", "cron", "tick", "trigger", "status", "reason", "instance type", "plan",
    "event", "webhook", "time limit", "node", "slot", "driver", "handle", "token", "position",
}  # fmt: skip
MOST_LINES_OF_A_DECISION = 40

_LINK = re.compile(r"\[[^\]]*\]\(\s*([^)\s]+)\s*\)")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_ASSIGNMENT = re.compile(r"\w+=")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """As forges make them of headings: lower case, without punctuation, blanks become hyphens."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(page.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert not broken


def test_the_index_leads_to_every_page() -> None:
    index = DOCS / "README.md"
    named = {(DOCS / target.partition("#")[0]).resolve() for target in _LINK.findall(index.read_text())}
    assert {name_of(page) for page in DOCS.rglob("*.md") if page not in named and page != index} == set()


def test_the_readme_leads_to_the_index() -> None:
    assert "](docs/README.md)" in (ROOT / "README.md").read_text()


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after `oneoff` of each command line that a page shows: in blocks and in running text."""
    blocks = [line for line in text.splitlines() if line.startswith("    ")]
    for line in [*blocks, *_SPAN.findall(text)]:
        if "oneoff " not in line:
            continue
        # What stands in `$(…)` is a command of its own.
        lexer = shlex.shlex(line.replace("$(", " ; ").rstrip(" )"), posix=True, punctuation_chars=";&|<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if not set(word) <= set(";&|<>"):
                words.append(word.replace("…", ""))
                continue
            while words and (words[0] == "$" or _ASSIGNMENT.match(words[0])):
                del words[0]
            if words[:1] == ["oneoff"] and words[1:] and not words[1].isupper():
                yield words[1:]
            words = []


def complaint(words: list[str]) -> str | None:
    """What click says of a command line, or None. A page may leave out arguments: `oneoff serve`."""
    context = click.Context(cli, info_name="oneoff")
    command: click.Command = cli
    try:
        while isinstance(command, click.Group):
            _, words, _ = command.make_parser(context).parse_args(words)
            if not words:
                return None
            name, words = words[0], words[1:]
            found = command.get_command(context, name)
            if found is None:
                return f"there is no command {name}"
            command, context = found, click.Context(found, info_name=name, parent=context)
        options, _, _ = command.make_parser(context).parse_args(words)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and isinstance(value := options.get(parameter.name or ""), str):
                parameter.type_cast_value(context, value)
    except click.UsageError as problem:
        return problem.format_message()
    return None


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_every_command_line_is_one_that_exists(page: Path) -> None:
    told = {" ".join(words): complaint(words) for words in command_lines(page.read_text())}
    assert not {line: said for line, said in told.items() if said}


def test_command_lines_are_found_and_wrong_ones_are_told() -> None:
    lines = [
        "Try `oneoff run a/b -- ls`.",
        "    run=$(oneoff run a/b --detach -- ls)",
        "    X=1 oneoff runs list | head  # all",
    ]
    page = "\n".join(lines)
    found = [" ".join(words) for words in command_lines(page)]
    assert found == ["run a/b --detach -- ls", "runs list", "run a/b -- ls"]
    assert complaint(["run", "a/b", "--", "ls", "--no-such-option"]) is None
    assert complaint(["run", "--no-such-option", "a/b"])
    assert complaint(["runs", "no-such-command"])
    assert complaint(["run", "--timeout", "soon", "a/b"])


def test_every_setting_is_documented() -> None:
    page = (DOCS / "settings.md").read_text()
    assert [s.name for s in SETTINGS if f"`{s.name}`" not in page or environment_name(s.name) not in page] == []
    written = "".join(page.read_text() for page in WRITTEN)
    options = {"data_dir": "--data", "database_url": "--database", "driver": "--driver", "listen": "--listen"}
    unexplained = [s.name for s in SETTINGS if s.name not in written and options.get(s.name, "\0") not in written]
    assert unexplained == []


def leaves(kind: type[errors.OneoffError]) -> Iterator[type[errors.OneoffError]]:
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


def test_every_error_code_is_documented() -> None:
    page = (DOCS / "errors.md").read_text()
    assert {kind.code for kind in leaves(errors.OneoffError) if f"`{kind.code}`" not in page} == set()


def test_every_word_of_the_glossary_is_explained() -> None:
    page = (DOCS / "concepts.md").read_text()
    explained = {word.strip() for row in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for word in row.split(",")}
    assert GLOSSARY - explained == set()
    assert [each.value for each in Trigger if f"`{each.value}`" not in page] == []


def test_every_status_and_reason_has_its_line() -> None:
    page = (DOCS / "exit-codes.md").read_text()
    assert [each.value for each in RunStatus if each in REASONS and each.is_final and each.value not in page] == []
    assert [each.value for each in Reason if f"`{each.value}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_path_of_this_machine(page: Path) -> None:
    home = str(Path.home())
    here = rf"(?<![\w.-])(?:{re.escape(str(ROOT))}|{re.escape(home)})(?![\w-])" if home != "/" else re.escape(str(ROOT))
    assert not re.findall(here, page.read_text())


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=name_of)
def test_a_decision_is_short_and_says_what_it_costs(page: Path) -> None:
    text = page.read_text()
    assert re.match(r"\d{3}-[a-z0-9-]+\.md$", page.name)
    assert text.startswith(f"# {page.name[:3]}: ")
    assert len(text.splitlines()) <= MOST_LINES_OF_A_DECISION
    for heading in ("## Context", "## Choice", "## What it costs"):
        assert heading in text
