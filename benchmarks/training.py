"""What a training step costs, against float32 and HGQ2; writes benchmarks/data/training.json and docs/performance.md.

    python benchmarks/training.py                       every comparison that the store lacks; about half an hour
    python benchmarks/training.py --only mlp-2048       those whose name matches
    python benchmarks/training.py --without hgq2        no foreign environment is made
    python benchmarks/training.py --render              docs/performance.md again, nothing is run

Each contender is a process of its own; they run in turns, round after round, a few steps each. A ratio is that of two neighbours in a
round; of the ratios median and quartiles are kept, so that whoever else uses the machine slows both sides down. Milliseconds are CPU time,
all threads together. HGQ2 gets an environment of its own in the user's cache folder, with the same TensorFlow and Keras.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.training_speed import page  # noqa: E402
from benchmarks.training_speed.plan import CASES, CONTENDERS, Case  # noqa: E402

WORKER = ROOT / "benchmarks" / "training_speed" / "worker.py"
HGQ2 = "0.2.0"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="REGEX", help="cases whose name matches")
    parser.add_argument("--contenders", default="", metavar="REGEX", help="contenders whose name matches, and float/graph")
    parser.add_argument("--without", default="^$", metavar="REGEX", help="no contenders whose name matches")
    parser.add_argument("--rounds", type=int, default=11, help="measured rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.6, help="about so long a contender runs in a round (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of each contender (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="measure also what is there already")
    parser.add_argument("--dry", action="store_true", help="show, keep nothing")
    parser.add_argument("--no-page", dest="page", action="store_false", help="write the store alone")
    parser.add_argument("--render", action="store_true", help="write the page, run nothing")
    options = parser.parse_args()
    if not options.render:
        for case in CASES:
            if not re.search(options.only, case.name):
                continue
            if page.read().get("cases", {}).get(case.name) and not (options.again or options.dry):
                print(f"{case.name}: there already")
                continue
            chosen = [
                c for c in CONTENDERS if c == CONTENDERS[0] or (re.search(options.contenders, c) and not re.search(options.without, c))
            ]
            measured = compare(case, chosen, options)
            show(case.name, measured)
            if not options.dry:
                page.store(case.name, measured, facts(options.threads))
    if not options.dry and options.page:
        page.PAGE.write_text(page.render(page.read()), encoding="utf-8")
    return 0


def facts(threads: int) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "threads": threads,
        "tensorflow": metadata.version("tensorflow"),
        "keras": metadata.version("keras"),
        "hgq2": HGQ2,
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
    }


# ---- measuring -------------------------------------------------------------------------------------------------------------------------


class Contender:
    """A worker process."""

    def __init__(self, name: str, case: Case, threads: int) -> None:
        self.name = name
        python = hgq2_python() if name.startswith("hgq2") else sys.executable
        env = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": "" if name.startswith("hgq2") else str(ROOT)}
        command = [str(python), str(WORKER), name, case.network, str(case.batch), case.granularity, str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd="/"
        )

    def ask(self, line: str) -> dict[str, float]:
        assert self.process.stdin and self.process.stdout and self.process.stderr
        try:
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}:\n{self.process.stderr.read()[-3000:]}")
        return json.loads(answer)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def compare(case: Case, names: list[str], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Each contender's milliseconds a step, ratios to the first one, first step and memory."""
    contenders: list[Contender] = []
    try:
        first, steps, times = {}, {}, {name: [] for name in names}
        for name in names:  # one after the other: they are many processes on few cores
            contenders.append(Contender(name, case, options.threads))
            first[name] = contenders[-1].ask("first")
            contenders[-1].ask("3")
            some = contenders[-1].ask("5")
            steps[name] = max(3, int(some["steps"] * options.seconds / some["wall"]))
        peak: dict[str, float] = {}
        for _ in range(options.rounds):
            for contender in contenders:
                taken = contender.ask(str(steps[contender.name]))
                times[contender.name].append(1000 * taken["cpu"] / taken["steps"])
                peak[contender.name] = taken["peak_mb"]
    finally:
        for contender in contenders:
            contender.close()
    base, measured = times[names[0]], {}
    for name in names:
        ratios = [a / b for a, b in zip(times[name], base, strict=True)]
        measured[name] = {
            "ms": [round(value, 3) for value in quartiles(times[name])],
            "ratio": [round(value, 3) for value in quartiles(ratios)],
            "first_cpu_s": round(first[name]["cpu"], 2),
            "first_wall_s": round(first[name]["wall"], 2),
            "peak_mb": round(peak[name]),
        }
    return measured


def quartiles(values: list[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered[round(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75)]


def show(title: str, measured: dict[str, dict[str, Any]]) -> None:
    print(f"\n{title}")
    for name, row in measured.items():
        low, middle, high = row["ratio"]
        line = f"  {name:<16}{row['ms'][1]:9.2f} ms   {middle:5.2f} ({low:.2f} to {high:.2f})"
        print(f"{line}   first {row['first_cpu_s']:5.1f} s CPU   {row['peak_mb']:6d} MB", flush=True)


def hgq2_python() -> Path:
    """The interpreter of an environment with HGQ2, which is made where it is missing."""
    from hgq import cache

    folder = cache.folder("benchmarks") / f"hgq2-{HGQ2}"
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        print(f"making {folder} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        same = [f"{name}=={metadata.version(name)}" for name in ("tensorflow", "keras")]
        subprocess.run([str(python), "-m", "pip", "install", "-q", f"hgq2=={HGQ2}", *same, "jax"], check=True)
        (folder / "complete").touch()
    return python


if __name__ == "__main__":
    sys.exit(main())
