"""The same server on PostgreSQL: runs, restarts, and a database that goes away and comes back."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.gate import Gate
from tests.crash.rig import Server, wait_until
from tests.rig.postgres import private_postgres


@pytest.fixture
def server(tmp_path: Path, postgres_url: str) -> Iterator[Server]:
    with Server(tmp_path / "data", "oci", options={"ONEOFF_DATABASE_URL": postgres_url}) as made:
        yield made


def test_a_run_survives_a_killed_server_on_postgresql(server: Server) -> None:
    server.start()
    gate = Gate()
    service_id = server.create_service()
    body = {"shell": f"echo before; echo x | nc 127.0.0.1 {gate.port} > /dev/null; echo after; exit 4"}
    run = server.create_run(service_id, body, "one")
    assert run is not None
    wait_until(lambda: bool(gate.waiting), 20, lambda: server.log.read_text()[-2000:])
    server.kill()
    gate.let({"x"})
    server.start()
    ended = server.wait_for_end(run["id"])
    assert (ended["reason"], ended["exit_code"]) == ("nonzero_exit", 4)
    assert server.output(run["id"], "stdout") == b"before\nafter\n"
    again = server.create_run(service_id, body, "one")
    assert again is not None
    assert again["id"] == run["id"]
    gate.close()


@pytest.mark.timeout(180)
def test_the_database_goes_away_and_comes_back_under_a_running_run(tmp_path: Path) -> None:
    gate = Gate()
    with private_postgres() as database:
        options = {"ONEOFF_DATABASE_URL": database.fresh_database()}
        with Server(tmp_path / "data", "oci", options=options) as server:
            server.start()
            service_id = server.create_service()
            body = {"shell": f"echo x | nc 127.0.0.1 {gate.port} > /dev/null; exit 6"}
            run = server.create_run(service_id, body, "one")
            assert run is not None
            wait_until(lambda: bool(gate.waiting), 20, lambda: server.log.read_text()[-2000:])
            database.stop()
            gate.let({"x"})
            with pytest.raises(urllib.error.HTTPError) as refused:
                server.call("GET", "/runs")
            assert refused.value.code == 503
            assert b"store_unavailable" in refused.value.read()
            database.start()
            wait_until(lambda: answers(server), 30, lambda: server.log.read_text()[-2000:])
            ended = server.wait_for_end(run["id"], 60)
            assert (ended["reason"], ended["exit_code"]) == ("nonzero_exit", 6)
    gate.close()


def answers(server: Server) -> bool:
    try:
        server.call("GET", "/runs")
    except urllib.error.HTTPError:
        return False
    return True
