"""Files, functions and parameter lists stay small enough to be read at once: docs/style.md."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "oneoff"
MOST_LINES_OF_A_FILE = 350
MOST_LINES_OF_A_FUNCTION = 40
MOST_PARAMETERS = 6

# What may be larger, and why.
LARGE_FILES: dict[str, str] = {
    "errors.py": "the whole error tree in one place is the point of it",
    "store/tables.py": "all tables in one view",
    "store/runs.py": "every transition of a run beside its guard; one copy of each query",
}
LARGE_FUNCTIONS: dict[str, str] = {
    "store/migrations/versions/0001_core.py:upgrade": "a migration is a list",
    "store/migrations/versions/0002_jobs.py:upgrade": "a migration is a list",
}


def sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def test_no_file_is_too_long() -> None:
    long = {name_of(path): len(path.read_text().splitlines()) for path in sources()}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES_OF_A_FILE}.keys() <= LARGE_FILES.keys()


def test_no_function_is_too_long() -> None:
    long = {
        f"{name_of(path)}:{function.name}": lines
        for path in sources()
        for function in functions(path)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    }
    assert long.keys() <= LARGE_FUNCTIONS.keys(), long


def test_no_function_takes_too_many_parameters() -> None:
    many = {}
    for path in sources():
        if path.is_relative_to(SOURCE / "cli") or path.is_relative_to(SOURCE / "api"):
            continue  # there a parameter is an option of a command or of a query string
        for function in functions(path):
            names = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MOST_PARAMETERS:
                many[f"{name_of(path)}:{function.name}"] = count
    assert not many


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        name_of(path)
        for path in sources()
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "helpers", "common", "base", "manager", "misc", "types", "models"}
    assert not [name_of(path) for path in sources() if path.stem in vague]
