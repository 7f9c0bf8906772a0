"""The suite: `python -m benchmarks [--quick] [--only PART …]`.

Runs everything, prints the tables, writes them as JSON and a picture into benchmarks/results/, and the newest run into
benchmarks/README.md. What is not installed is left out, with a word. `--quick` runs all of it for a minute or two, to
see that it runs, and writes into .bench/ alone, as does a run of some parts.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import choosing, comparison, growth, in_flight, ledger, overload, profiling, scaling, servers
from benchmarks.bench import Bench
from benchmarks.goals import GOALS
from benchmarks.machine import available, description, descriptors, split, stay_on
from benchmarks.processes import CACHE, ROOT
from benchmarks.report import Section, document, goals_section, replace_newest, write_json
from benchmarks.rivals import PLOTTING, UnavailableError, python_environment

PARTS = {
    "comparison": comparison.run,
    "in_flight": in_flight.run,
    "scaling": scaling.run,
    "growth": growth.run,
    "overload": overload.run,
    "ledger": ledger.run,
    "choosing": choosing.run,
    "servers": servers.run,
    "profiling": profiling.run,
}
HERE = ROOT / "benchmarks"
PICTURE = "newest.svg"


def draw(results: Path, picture: Path) -> bool:
    """Draw the picture in an environment of its own; tells whether that went well, and says why not."""
    try:
        programs = python_environment("plotting", f"matplotlib=={PLOTTING}")
    except UnavailableError as error:
        print(f"No picture: {error}")
        return False
    command = [str(programs / "python"), str(HERE / "picture.py"), str(results), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(f"Picture: {picture}" if done.returncode == 0 else f"No picture: {done.stderr[-500:]}")
    return done.returncode == 0


def measure(parts: list[str], *, quick: bool) -> tuple[dict[str, str | int | float], list[Section]]:
    """Run some parts, one after another, and return the machine and the tables."""
    machine = description()
    machine["open_files"] = descriptors()
    cores = split(available())
    stay_on(cores.load)
    CACHE.mkdir(exist_ok=True)
    sections: list[Section] = []
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as name:
        bench = Bench(Path(name), cores, int(machine["open_files"]), quick)
        for part in parts:
            began = time.monotonic()
            try:
                found = PARTS[part](bench)
            except RuntimeError as error:  # the other parts are worth having all the same
                found = [Section(part, notes=[f"Broke off: {error}"])]
            sections += found
            print("\n\n".join(section.markdown() for section in found), flush=True)
            print(f"\n({part}: {time.monotonic() - began:.0f} s)\n", flush=True)
    if not cores.apart:
        sections[0].notes.append("Everything shared one core.")
    return machine, [goals_section(GOALS, sections), *sections]


def main() -> None:
    """Run all that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it runs")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    options = parser.parse_args()
    now = datetime.now(UTC)
    machine, sections = measure(options.only or list(PARTS), quick=options.quick)
    print(sections[0].markdown() + "\n")
    public = not options.quick and not options.only
    folder = HERE / "results" if public else CACHE / "results"
    results = folder / f"{now:%Y-%m-%d}.json"
    when = f"{now:%Y-%m-%d %H:%M} UTC"
    write_json(results, machine, when, sections)
    print(f"Figures: {results}")
    drawn = draw(results, folder / PICTURE)
    if public:
        shown = f"![Beside others](results/{PICTURE})\n\n" if drawn else ""
        replace_newest(HERE / "README.md", shown + document(machine, when, sections))


if __name__ == "__main__":
    main()
