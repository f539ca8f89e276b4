"""The run that `bench compare` and `bench relay` have in common: sides in turns, and the result that comes of it."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from proxy.cli.bench_options import can_write, configuration, not_written, now_text, typed_command
from proxy.cli.bench_sideoptions import scale_of
from proxy.cli.bench_sides import Table, print_sides
from proxy.lab.comparison import Field
from proxy.lab.contest import contest, steps
from proxy.lab.environment import environment
from proxy.lab.generator import Generators, LoadFault
from proxy.lab.meaning import disturbance, of_python
from proxy.lab.results import Kind, Result, Row, write
from proxy.lab.servercpu import ProcessCpu, Waiting
from proxy.lab.streams import StreamClient
from proxy.lab.testbed import Testbed, split_cores
from proxy.lab.workloads import Bench, Scale
from proxy.ops.printable import printable

Failed = list[str]  # a sentence for each side that is here and yet was not measured
MakeBench = Callable[[StreamClient, Generators, Scale], Bench]
LineUp = Callable[[Testbed, Bench, ExitStack, Callable[[str], None]], Field]
Meaning = Callable[[Sequence[Row]], list[str]]


def run_sides(
    program: str,
    args: argparse.Namespace,
    measure: Callable[[], tuple[Result, Failed]],
    tables: Callable[[Result], Sequence[Table]],
) -> int:
    """Measure and print; returns 0, 1 when something could not be measured or a file not be written."""
    if not can_write(program, args.json):
        return 1
    try:
        result, failed = measure()
    except LoadFault as fault:
        print(f"{program}: {printable(str(fault))}", file=sys.stderr)
        return 1
    status = _conclude(program, result, args.json, failed)  # first: what takes the tables (head, less) may leave early
    print_sides(result, tables(result))
    return status


def measure_sides(
    args: argparse.Namespace, kind: Kind, engine: str, *, bench: MakeBench, line_up: LineUp, meaning: Meaning
) -> tuple[Result, Failed]:
    """
    Start all sides and let them take turns. Raises: LoadFault

    engine: of the sidecars, for what the result says of the machine
    """
    started_at, cores = now_text(), split_cores()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mtls-sidecar-bench-"))
        bar = stack.enter_context(tqdm(desc="starting", unit="step", disable=None, leave=False))
        bed = stack.enter_context(Testbed(Path(folder), cores))
        client = stack.enter_context(StreamClient(cores.load))
        generators = stack.enter_context(Generators(args.processes, cores.load))
        field = line_up(bed, bench(client, generators, scale_of(args)), stack, bar.set_description_str)
        bar.reset(total=steps(field.entries, args.rounds))

        def progress(step: str) -> None:
            bar.set_description_str(step)
            bar.update()

        waiting = Waiting([ProcessCpu(field.ours)])
        rows = contest(field.entries, rounds=args.rounds, seed=args.seed, progress=progress)
        disturbed = disturbance(waiting.share())
    where = environment(engine)
    said = [*meaning(rows), *disturbed, *of_python(where), *field.failed, *field.notes]
    result = Result(
        kind=kind,
        started_at=started_at,
        environment=where,
        seed=args.seed,
        command=typed_command(sys.argv[1:]),
        rows=tuple(rows),
        configuration=configuration(args),
        certificates=bed.identities(args.key).certificates,
        sides=field.words,
        notes=(*said, *([cores.note] if cores.note else [])),
    )
    return result, field.failed


def _conclude(program: str, result: Result, file: str | None, failed: Sequence[str]) -> int:
    """Write the result where that was asked for; returns the exit status. failed: sides that could not take part"""
    if file is not None:
        try:
            write(file, result)
        except OSError as error:
            not_written(program, file, error)
            return 1
    return 1 if failed or any(row.fault for row in result.rows) else 0
