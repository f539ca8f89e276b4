"""
What a folder of results leaves beside each NAME.json: the reports of the product's own `bench report`, and a README.md
that says which scenarios there are, what each came to, on what machine, and what to type to have them again.

Everything is made of the JSON alone, so whatever a document does not say of its machine stands nowhere.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from proxy.lab.report import Report, report
from proxy.lab.results import read

MOST_BYTES = 1_500_000  # of one file that is to be committed
COMMAND = "python -m bench.scenarios full --out bench/results"
_FIRST = 4  # sentences of a report that the overview repeats
_UNSOUND = ("Not whole:", "This machine had other work")  # never left out
_PLACE = ("machine", "kernel", "mtls-sidecar", "Python", "Python's build", "load average at the start")


def write_reports(result: Path, folder: Path) -> str:
    """
    Write NAME.md and NAME.html in the folder for a NAME.json, and the result itself.

    Returns: what went wrong, in a sentence; empty if nothing did
    """
    page = folder / f"{result.stem}.html"
    argv = [sys.executable, "-m", "proxy", "bench", "report", str(result), "--markdown", "--html", str(page)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{result.stem}: {done.stderr.strip()}"
    written = [folder / result.name, folder / f"{result.stem}.md", page]
    written[0].write_bytes(result.read_bytes())
    written[1].write_text(done.stdout, encoding="utf-8")
    large = [f"{file.name} has {file.stat().st_size:,}" for file in written if file.stat().st_size > MOST_BYTES]
    return f"more than {MOST_BYTES:,} bytes, too many for a repository: {', '.join(large)}" if large else ""


def write_overview(folder: Path, scenarios: Mapping[str, str]) -> Path:
    """
    Write README.md of the scenarios whose JSON is in the folder; returns its path.

    scenarios: what each is about, by its name. Raises: BadResult
    """
    made = {
        name: report(read(str(folder / f"{name}.json"))) for name in scenarios if (folder / f"{name}.json").exists()
    }
    page = folder / "README.md"
    page.write_text("\n".join(_overview(made, scenarios, (folder / "reference.json").exists())), encoding="utf-8")
    return page


def _overview(made: Mapping[str, Report], about: Mapping[str, str], has_yardsticks: bool) -> Iterator[str]:
    yield from (
        "# Reference results",
        "",
        "The scenarios of the laboratory ([bench/scenarios.py](../scenarios.py)), as they were measured. This page and",
        "the reports are written by the command that repeats them, from a checkout on a quiet machine:",
        "",
        f"    {COMMAND}",
        "",
        "| scenario | measured | report | page with plots | every number |",
        "|---|---|---|---|---|",
    )
    for name, each in made.items():
        files = " | ".join(f"[{name}.{suffix}]({name}.{suffix})" for suffix in ("md", "html", "json"))
        yield f"| {name} | {each.subtitle.partition(',')[0]} | {files} |"
    yield from (
        "",
        "The pages need nothing else and open offline, once they are downloaded.",
        "[docs/benchmarking.md](../../docs/benchmarking.md) says how to read them. Most of a JSON file are histograms",
        "of latencies, compressed, one for each round: what `bench report` and `bench merge` read is all there.",
    )
    if has_yardsticks:
        yield (
            "[reference.json](reference.json) is of another kind: the sidecar beside two yardsticks, by "
            "`python -m bench full` ([bench/README.md](../README.md))."
        )
    yield from ("", "## Where", "")
    for fact in _PLACE:
        found = {name: value for name, each in made.items() for key, value in each.facts if key == fact}
        if len(set(found.values())) == 1:
            yield f"- {fact}: {next(iter(found.values()))}"
        elif found:
            yield f"- {fact}: {'; '.join(f'{value} ({name})' for name, value in found.items())}"
    for name, each in made.items():
        yield from ("", f"## {name}: {about[name]}", "", f"    {each.command}", "")
        more = each.summary[_FIRST:]
        unsound = [sentence for sentence in more if sentence.startswith(_UNSOUND)]
        yield from (f"- {sentence}" for sentence in (*each.summary[:_FIRST], *unsound))
        yield f"- {len(more) - len(unsound)} more, and the tables: [{name}.md]({name}.md)"
    yield ""
