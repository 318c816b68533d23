"""A private image registry on a loopback port, with or without a password; ended by pid."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.rig import images, process

USER, PASSWORD = "deployer", "correct horse battery staple"
# bcrypt of PASSWORD, cost 5; the registry takes no other kind.
_HTPASSWD = "deployer:$2b$05$N9qo8uLOickgx2ZMRZoMyemwPFtx3QEfMRArLNRINBYFDEB9/P5yG\n"
_CONFIG = """\
version: 0.1
storage:
  filesystem: {{rootdirectory: "{folder}/registry"}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
{auth}"""
_AUTH = """\
auth:
  htpasswd: {{realm: test, path: "{folder}/htpasswd"}}
"""


class Registry:
    """A running registry. `host` is what image names begin with."""

    def __init__(self, folder: Path, *, with_password: bool) -> None:
        self.folder = folder
        self.host = f"127.0.0.1:{process.free_port()}"
        self.log = folder / "registry.log"
        self._credentials = f"{USER}:{PASSWORD}" if with_password else ""
        self._process: subprocess.Popen[bytes] | None = None
        auth = _AUTH.format(folder=folder) if with_password else ""
        port = self.host.partition(":")[2]
        (folder / "registry.yml").write_text(_CONFIG.format(folder=folder, port=port, auth=auth))
        (folder / "htpasswd").write_text(_HTPASSWD)

    def start(self) -> None:
        argv: list[str | Path] = ["docker-registry", "serve", self.folder / "registry.yml"]
        self._process = process.start(argv, self.log)
        host, _, port = self.host.partition(":")
        process.wait_until_ready(lambda: process.accepts((host, int(port))), self._process, self.log, 30)

    def stop(self) -> None:
        """Ends it; what was pushed stays, so that `start` brings the same registry back."""
        if self._process is not None:
            process.end(self._process)
            self._process = None

    def push(self, tag: str, name: str) -> str:
        """Push the rig's image `tag` as HOST/name (`shop/web:1`); returns the full name."""
        full = f"{self.host}/{name}"
        argv = ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]
        argv += ["--dest-creds", self._credentials] if self._credentials else []
        subprocess.run([*argv, images.image_ref(tag), f"docker://{full}"], check=True, capture_output=True)
        return full


@contextmanager
def private_registry(folder: Path, *, with_password: bool = False) -> Iterator[Registry]:
    """A registry with its data in `folder`; with a password it is USER and PASSWORD."""
    registry = Registry(folder, with_password=with_password)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
