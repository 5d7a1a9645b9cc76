"""`python -m tests.bench`: every bench in turn. The exit code is 1 if any of them missed a goal; all of them run all the same."""

import subprocess
import sys

BENCHES = ("tests.bench.checker_cpu", "tests.bench.folding", "tests.bench.detecting", "tests.bench.reading")


def main() -> int:
    """Run them one by one, so that none disturbs another."""
    codes = []
    for module in BENCHES:
        print(f"\n== {module}", flush=True)
        codes.append(subprocess.run([sys.executable, "-m", module], check=False).returncode)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
