"""`oneoff log-stream` on a live server."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli
from tests.cli.live import live_server


def test_a_log_stream_is_set_with_its_token_from_standard_input(tmp_path: Path) -> None:
    with live_server(tmp_path) as server:
        cli = Cli(tmp_path, ONEOFF_URL=server.url, ONEOFF_TOKEN=server.home.admin_token)
        words = ["log-stream", "set", "--syslog", "127.0.0.1:1", "--protocol", "tcp"]
        refused = cli.run(*words)
        assert refused.returncode == 1
        assert b"127.0.0.1:1 does not take logs: connection refused" in refused.stderr
        done = cli.run(*words, "--no-check", "--token-stdin", stdin=b"s3cret\n")
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"s3cret" not in done.stdout
        listed = cli.run("log-stream", "list").stdout.decode()
        assert "127.0.0.1:1 (tcp)" in listed
        shown = json.loads(cli.run("log-stream", "show", "--json").stdout)
        assert shown["has_token"] is True
        assert cli.run("log-stream", "delete", "--yes").returncode == 0
        assert cli.run("log-stream", "set").returncode == 2
