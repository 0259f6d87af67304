"""python -m tests.kill_matrix [--write FILE] [--only NAME ...]: exit 0 when every sabotage is caught and every judging eval catches one."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.kill_matrix.bench import LIMIT, Bench, BenchError
from tests.kill_matrix.inner import InnerRunError
from tests.kill_matrix.sabotage import Sabotage
from tests.kill_matrix.sabotages import all_sabotages
from tests.kill_matrix.table import page
from tests.kill_matrix.verdicts import Judge, Row, judging_functions


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 as above, 1 for a survivor or an idle eval, 2 where nothing could be compared."""
    args = _parse(arguments)
    groups = {
        heading: [s for s in group if not args.only or s.name in args.only]
        for heading, group in all_sabotages().items()
    }
    benches = dict.fromkeys((s.subject, s.paths) for group in groups.values() for s in group)
    with tempfile.TemporaryDirectory() as folder:
        try:
            judges = {key: Judge(Bench(Path(folder, f"bench-{n}"), key[1], key[0])) for n, key in enumerate(benches)}
            rows = {
                heading: [_row(judges[s.subject, s.paths], s) for s in group]
                for heading, group in groups.items()
                if group
            }
        except (BenchError, InnerRunError) as error:
            print(error, file=sys.stderr)
            return 2
    return conclude(rows, judging_functions(), args.write, complete=not args.only)


def conclude(rows: dict[str, list[Row]], functions: list[str], write: Path | None, *, complete: bool) -> int:
    """Write the page, name survivors and, after a complete matrix, idle evals; the exit status."""
    everything = [row for group in rows.values() for row in group]
    survivors = [row.sabotage.name for row in everything if not row.is_caught]
    idle = [name for name in functions if complete and not any(name in row.caught for row in everything)]
    if write is not None:
        write.write_text(page(rows, functions, LIMIT), encoding="utf-8")
    for name in survivors:
        print(f"NOT CAUGHT: {name}", file=sys.stderr)
    for name in idle:
        print(f"CATCHES NOTHING: {name}", file=sys.stderr)
    print(f"kill matrix: {len(everything) - len(survivors)} of {len(everything)} sabotages caught", file=sys.stderr)
    return 1 if survivors or idle or not everything else 0


def _row(judge: Judge, sabotage: Sabotage) -> Row:
    started = time.perf_counter()
    row = judge.row(sabotage)
    by = ", ".join((["loading"] if row.refused else []) + list(row.caught)) or "nobody"
    print(f"{sabotage.name} ({time.perf_counter() - started:.1f} s): {by}", file=sys.stderr, flush=True)
    return row


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    known = [s.name for group in all_sabotages().values() for s in group]
    parser = argparse.ArgumentParser(prog="python -m tests.kill_matrix", description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page here")
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME", help=f"of {', '.join(known)}")
    args = parser.parse_args(arguments)
    if args.write and args.only:
        parser.error("--write wants the whole matrix; leave --only out")
    return args


if __name__ == "__main__":
    sys.exit(main())
