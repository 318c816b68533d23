"""What a started server keeps out of its memory until somebody needs it: docs/benchmarks.md, an idle server."""

import subprocess
import sys

# By what each of them is for.
NEEDLESS = {
    "sqlalchemy.orm",
    "sqlalchemy.dialects.postgresql",  # without --database
    "psycopg",
    "alembic",  # an older schema
    "yaml",  # `oneoff apply` alone
    "httpx2",  # webhooks, log streams
    "wsproto",  # websockets
    "oneoff.render_api",
    "oneoff.otel",
    "pydantic.v1.main",
}
LOOK = """
import sys
import oneoff.server
from oneoff.cli.main import main

oneoff.server.serve = lambda settings: 0
main(["serve"])
import oneoff.store.schema, oneoff.api.app, oneoff.drivers.oci.driver, oneoff.drivers.docker.driver
from fastapi.openapi.models import Info
from oneoff.api.shapes import RunShape

print(*sys.modules)
print(Info.__pydantic_complete__, RunShape.__pydantic_complete__)
"""


def test_a_server_loads_nothing_that_nobody_has_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    loaded, models = done.stdout.splitlines()
    assert "fastapi.openapi.models" in loaded.split()
    assert not NEEDLESS & set(loaded.split())
    assert models == "False False"


def test_whoever_imports_the_api_may_use_pydantic_1() -> None:
    look = "import sys, oneoff.api.app; assert sys.modules.get('pydantic.v1', 'not yet') is not None"
    subprocess.run([sys.executable, "-c", look], check=True)
