"""The supervisor's poll loop over a process that is no container: what only a race would show otherwise."""

from __future__ import annotations

import subprocess
import sys

# A runtime returns while its last process, the parent of a command that has ended already, lives on for a moment.
_LATE_PARENT = """
import os, sys, time
from pathlib import Path
from oneoff.drivers.oci import linux
from oneoff.drivers.oci.attendance import Attendance
from oneoff.logs.writer import LogWriter

linux.adopt_orphans()
told, tell = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        command = os.fork()
        if command == 0:
            os._exit(7)
        os.waitid(os.P_PID, command, os.WEXITED | os.WNOWAIT)
        os.write(tell, str(command).encode())
        time.sleep(0.2)
    os._exit(0)
pid = int(os.read(told, 20))
control, _ = os.pipe()
print(Attendance(pid, {}, control, LogWriter(Path(sys.argv[1]), 100)).until_end())
"""


def test_a_command_that_ended_before_it_became_our_child_keeps_its_code(tmp_path: object) -> None:
    argv = [sys.executable, "-c", _LATE_PARENT, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "7\n"
