"""Who may import what: docs/architecture.md, held by import-linter and by a look at every import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "oneoff"

# Outside library or module -> the only files that may import it (glob patterns below src/oneoff).
OWNERS = {
    "sqlalchemy": ["store/**/*.py"],
    "alembic": ["store/**/*.py"],
    "psycopg": ["store/**/*.py"],
    "httpx2": ["**/client.py"],
    "httptools": ["drivers/docker/connection.py"],
    "fastapi": ["api/**/*.py", "entrance/*.py"],
    "starlette": ["api/**/*.py", "render_api/**/*.py", "entrance/*.py"],
    "click": ["cli/**/*.py"],
    "cryptography": ["sealing.py"],
    "uvicorn": ["server.py"],
    "subprocess": ["drivers/oci/*.py", "drivers/docker/archive.py", "cli/**/*.py"],
}
PROCESS_STARTERS = {
    *("image.py", "network.py", "netrules.py", "runtime.py"),  # skopeo, unpacking, ip, nft, runc
    *("supervisor.py", "launcher.py", "zygote.py"),  # the processes of runs
    "archive.py",  # skopeo, from a layout to what Docker loads
}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def ours(path: Path, known: set[str]) -> set[str]:
    """Modules of ours that a file imports anywhere in it, also for types only."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & known
            names |= inside or {node.module}
    return names & known


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {path: ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in modules()}
    known = set(names.values())
    graph = {name: ours(path, known) for path, name in names.items()}
    assert sum(map(len, graph.values())) > 1000
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names them


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("package", OWNERS)
def test_a_library_is_imported_only_by_its_owner(package: str) -> None:
    owned = {path for pattern in OWNERS[package] for path in SOURCE.glob(pattern)}
    strangers = [str(path.relative_to(SOURCE)) for path in modules() if path not in owned and package in imported(path)]
    assert not strangers


def test_the_core_reads_no_clock_and_does_no_io() -> None:
    allowed = {"oneoff", "__future__", "cronsim", *sys.stdlib_module_names}
    forbidden = {
        "os",
        "time",
        "random",
        "secrets",
        "socket",
        "subprocess",
        "asyncio",
        "threading",
        "shutil",
        "tempfile",
    }
    for path in (SOURCE / "core").glob("*.py"):
        names = set(imported(path))
        assert names <= allowed, path.name
        assert not names & forbidden, path.name
        assert ".now(" not in path.read_text().replace("def now(", ""), path.name


def test_processes_are_started_in_few_places() -> None:
    starters = (
        "create_subprocess_exec",
        "subprocess.run",
        "subprocess.Popen",
        "os.posix_spawn",
        "os.execv",
        "os.fork(",
    )
    found = {
        str(path.relative_to(SOURCE))
        for path in modules()
        if any(word in path.read_text() for word in starters) and not path.is_relative_to(SOURCE / "cli")
    }
    assert {Path(name).name for name in found} <= PROCESS_STARTERS, found
