"""Seconds from the command to the answer: `sciml --help`, `import sciml`, and what dominates them.

python -m sciml.experiments.benchmarks.bench_import
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

CASES = {
    "python -c pass": ["-c", "pass"],
    "sciml --help": ["-m", "sciml.experiments.cli", "--help"],
    "import torch": ["-c", "import torch"],
    "import sciml": ["-c", "import sciml"],
}


def main(repeats: int = 5) -> None:
    """Print the median and least wall time of each case over interleaved repeats."""
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(repeats):
        for name, arguments in CASES.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - began)
    for name, values in seconds.items():
        print(f"{name:16s} median {statistics.median(values):6.2f} s   least {min(values):6.2f} s")
    ratio = min(seconds["import sciml"]) / min(seconds["import torch"])
    print(f"import sciml / import torch: {ratio:.2f}")


if __name__ == "__main__":
    main()
