"""Stops the test servers of one run when nobody uses them any more: `python -m tests.reaper FOLDER`.

Everyone who uses them holds a shared lock on `<folder>/lease`; the kernel lets go of it however a process ends, so waiting for the
exclusive lock is waiting for the last user, also of a run that was killed.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

from infra.ops import servers


def main(folder: Path) -> None:
    """Wait for the last user, then leave no process, no container and no file behind."""
    with (folder / "lease").open("r") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        servers.stop_all(folder, graceful=False)
        for container in folder.glob("*.container"):
            subprocess.run(["docker", "rm", "--force", "--volumes", container.read_text(encoding="utf-8")], check=True, capture_output=True)
        servers.erase(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
