"""Writes config.json for the demo app's web process: usage `app_bundle.py UNPACKED BUNDLE KEY=VALUE…`.

From what umoci derived from the image; on the host's network, as an app without a container platform would be.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(unpacked: Path, bundle: Path, variables: list[str]) -> None:
    config = json.loads((unpacked / "config.json").read_text())
    process = config["process"]
    process["terminal"] = False
    process["env"] += variables
    process["noNewPrivileges"] = True
    process["capabilities"] = {}
    # The root file system is shared by all demos, so nobody may write to it.
    config["root"] = {"path": str(unpacked / "rootfs"), "readonly": True}
    scratch = {"type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]}
    config["mounts"].append({"destination": "/tmp", **scratch})  # noqa: S108 - a path inside the container
    linux = config["linux"]
    linux["namespaces"] = [space for space in linux["namespaces"] if space["type"] != "network"]
    (bundle / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
