"""`oneoff log-stream` on a live server."""

from __future__ import annotations

import json

from tests.cli.conftest import Cli


def test_a_log_stream_is_set_with_its_token_from_standard_input(admin: Cli) -> None:
    words = ["log-stream", "set", "--syslog", "127.0.0.1:1", "--protocol", "tcp"]
    refused = admin.run(*words)
    assert refused.returncode == 1
    assert b"127.0.0.1:1 does not take logs: connection refused" in refused.stderr
    done = admin.run(*words, "--no-check", "--token-stdin", stdin=b"s3cret\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"s3cret" not in done.stdout
    listed = admin.run("log-stream", "list").stdout.decode()
    assert "127.0.0.1:1 (tcp)" in listed
    shown = json.loads(admin.run("log-stream", "show", "--json").stdout)
    assert shown["has_token"] is True
    assert admin.run("log-stream", "delete", "--yes").returncode == 0
    assert admin.run("log-stream", "set").returncode == 2
