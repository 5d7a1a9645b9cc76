"""The containers' health check: `python -m infra.docker.health` exits with 0 if the service says that it is ready.

Standard library only: it starts every few seconds in every container.
"""

import http.client
import os
import sys


def main() -> int:
    """Ask this container's service."""
    link = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("SLA_HEALTH_PORT", "9100")), timeout=2)
    try:
        link.request("GET", "/health/ready")
        answer = link.getresponse()
        said = answer.read(500).decode("utf-8", errors="replace")
    except OSError as error:
        said = str(error)
    else:
        if answer.status == http.client.OK:
            return 0
    finally:
        link.close()
    sys.stdout.write(said)
    return 1


if __name__ == "__main__":
    sys.exit(main())
