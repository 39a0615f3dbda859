"""Look for failures for some minutes: `make fuzz MINUTES=20`, or `python tests/fuzz --help`.

Drawn cases of every law fill the minutes that the rest leaves; what fails is shrunk to its
smallest case and printed with the seed that finds it again. The other parts: damaged run folders,
interrupted trainings, faults at the writes of a training, full and read-only disks, two trainings
into one folder, and memory.
"""

import argparse
import os
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

PARTS = ("folders", "kills", "writes", "places", "laws")


def main() -> int:
    """Run the parts and print what they counted; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument("--minutes", type=float, default=20.0, help="for all parts together")
    parser.add_argument("--seed", type=int, help="of everything drawn; by default the time")
    parser.add_argument("--only", default="", help="laws, or damages, with this in their name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes for laws")
    parser.add_argument("--every", type=int, default=10, help="every n-th write fails; 1: each")
    parser.add_argument("--report", type=Path, help="append rows of docs/reliability.md here")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(unknown)}; choose of {', '.join(PARTS)}")
    begun = time.monotonic()
    seed = int(time.time()) % 10**6 if arguments.seed is None else arguments.seed
    print(f"seed {seed}: python tests/fuzz {' '.join(arguments.parts)} --seed {seed}", flush=True)
    counted: list[tuple[str, int, int]] = []

    if set(arguments.parts) - {"laws"}:
        import calls

        calls.prepare()
    if "folders" in arguments.parts:
        import folders

        damages, total, failures = folders.run(seed, arguments.only)
        counted.append((f"damaged files, {damages} in {total} calls", damages, len(failures)))
    if "kills" in arguments.parts:
        import kills

        moments, failures = kills.run(seed)
        counted.append(("trainings interrupted and resumed", moments, len(failures)))
    if "writes" in arguments.parts:
        import writes

        cases, failures = writes.run(arguments.every)
        counted.append(("faults at writes of a training", cases, len(failures)))
    if "places" in arguments.parts:
        import places

        for name, (cases, failures) in places.run().items():
            counted.append((name, cases, len(failures)))
    if "laws" in arguments.parts:
        import drawn

        left = arguments.minutes - (time.monotonic() - begun) / 60
        cases, outcomes = drawn.run(max(left, 1.0), seed, arguments.only, arguments.jobs)
        counted.append(("drawn cases of laws", cases, len(outcomes)))

    print(f"\n{'':45s}{'cases':>10s}{'failures':>10s}")
    for name, cases, failed in counted:
        print(f"{name:45s}{cases:10,d}{failed:10,d}")
    if arguments.report is not None:
        with arguments.report.open("a", encoding="utf-8") as file:
            for name, cases, failed in counted:
                parts = " ".join(arguments.parts)
                file.write(f"| {name} | `{parts} --seed {seed}` | {cases:,} | {failed} |\n")
    print(f"seed {seed}, {(time.monotonic() - begun) / 60:.1f} minutes")
    return int(any(failed for *_, failed in counted))


if __name__ == "__main__":
    sys.exit(main())
