"""All speed measurements, each in its own process so that none warms another's caches.

    python -m sciml.experiments.benchmarks [NAME...]

Names are those of the files `bench_<NAME>.py` beside this one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all; the exit status is that of the worst."""
    found = sorted(p.stem.removeprefix("bench_") for p in Path(__file__).parent.glob("bench_*.py"))
    unknown = [name for name in arguments if name not in found]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; expected one of: {', '.join(found)}", file=sys.stderr)
        return 2
    worst = 0
    for name in arguments or found:
        print(f"== {name}", flush=True)
        done = subprocess.run([sys.executable, "-m", f"sciml.experiments.benchmarks.bench_{name}"])
        worst = max(worst, done.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
