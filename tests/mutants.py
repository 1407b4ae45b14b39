"""Mutation testing: small faults are put into the code one by one, and the tests have to notice.

    make mutants                    # all of them: hours on two cores
    make mutants SAMPLE=200         # 200 of those that have not run yet, drawn with a seed
    make mutants ONLY=lungbox.boxes # those of a package or module

What is mutated, and by which tests it is checked, stands in pyproject.toml under tool.mutmut. A run
that was stopped goes on where it was; `mutmut show NAME` prints what a mutant changes.
"""

import argparse
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

MUTMUT = Path(sys.executable).with_name("mutmut")
UNDECIDED = ("not checked",)
# A mutant that runs for ever is noticed; one that no test runs is not.
NOTICED = ("killed", "timeout", "segfault", "caught by type check")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.mutants")
    parser.add_argument("--sample", type=int, default=0, help="how many; all by default")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--only", default="", help="names that begin with this")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    # Asked for no mutant that there is, mutmut writes them all and ends with an error.
    run("no.such.mutant", processes=given.processes, quiet=True)
    open_ones = [
        name
        for name, outcome in outcomes().items()
        if outcome in UNDECIDED and name.startswith(given.only)
    ]
    if not open_ones and not outcomes():
        sys.exit("mutmut made no mutants; run `mutmut run` to see why")
    if given.sample and given.sample < len(open_ones):
        open_ones = random.Random(given.seed).sample(sorted(open_ones), given.sample)
    if open_ones:
        run(*open_ones, processes=given.processes)
    print(table(outcomes()))  # noqa: T201


def run(*names: str, processes: int, quiet: bool = False) -> None:
    command = [str(MUTMUT), "run", "--max-children", str(processes), *names]
    subprocess.run(command, check=False, capture_output=quiet)


def outcomes() -> dict[str, str]:
    """What became of each mutant, by name."""
    command = [str(MUTMUT), "results", "--all", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    pairs = (line.strip().rpartition(": ") for line in done.stdout.splitlines())
    return {name: outcome for name, separator, outcome in pairs if separator}


def table(found: dict[str, str]) -> str:
    """Markdown: packages with how many mutants were noticed, then the names of the rest."""
    of_package: dict[str, Counter[str]] = defaultdict(Counter)
    for name, outcome in found.items():
        of_package[".".join(name.split(".")[:2])][outcome] += 1
    lines = ["| package | mutants | run | noticed | survived |", "| --- | --- | --- | --- | --- |"]
    for package, counts in sorted(of_package.items()):
        ran = sum(counts.values()) - sum(counts[outcome] for outcome in UNDECIDED)
        noticed = sum(counts[outcome] for outcome in NOTICED)
        share = f" ({noticed / ran:.0%})" if ran else ""
        cells = (package, sum(counts.values()), ran, f"{noticed}{share}", ran - noticed)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    survivors = [
        f"- {name}: {outcome}"
        for name, outcome in sorted(found.items())
        if outcome not in (*UNDECIDED, *NOTICED)
    ]
    return "\n".join([*lines, "", *survivors])


if __name__ == "__main__":
    main()
