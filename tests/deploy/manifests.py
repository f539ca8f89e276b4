"""Every manifest under deploy/, as a cluster would get it: kustomizations and the chart rendered, the rest as it is."""

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.deploy.dockerfile import REPOSITORY
from tests.programs import program

DEPLOY = REPOSITORY / "deploy"
CHARTS = sorted(path.parent for path in DEPLOY.rglob("Chart.yaml"))
CHART_VALUES = sorted(path for chart in CHARTS for path in chart.glob("ci/*-values.yaml"))
KUSTOMIZATIONS = sorted(
    path.parent for path in DEPLOY.rglob("kustomization.yaml") if "kind: Component" not in path.read_text()
)

Json = dict[str, Any]


class Rendered(NamedTuple):
    """What one source gives: a folder to kustomize, a chart with values, or a file."""

    name: str
    objects: tuple[Json, ...]

    def of(self, kind: str) -> list[Json]:
        return [one for one in self.objects if one["kind"] == kind]

    def pods(self) -> Iterator[tuple[str, Json]]:
        """Every Pod or template: where it is, and its metadata and spec."""
        for one in self.objects:
            where = f"{self.name}: {one['kind']} {one['metadata']['name']}"
            if one["kind"] == "Pod":
                yield where, one
            elif one["kind"] == "CronJob":
                yield where, one["spec"]["jobTemplate"]["spec"]["template"]
            elif "template" in one.get("spec", {}) and one["kind"] in (
                "Deployment",
                "StatefulSet",
                "DaemonSet",
                "ReplicaSet",
                "Job",
            ):
                yield where, one["spec"]["template"]


def containers(pod: Json) -> list[Json]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def files() -> list[Path]:
    """Every YAML file of Kubernetes objects that is neither a part of a kustomization nor of a chart."""
    folders = [*CHARTS, *(path.parent for path in DEPLOY.rglob("kustomization.yaml"))]
    alone = [path for path in sorted(DEPLOY.rglob("*.yaml")) if not any(folder in path.parents for folder in folders)]
    return [path for path in alone if _objects(path.read_text(encoding="utf-8"))]


@functools.cache
def kustomized(folder: Path) -> Rendered:
    argv = [program("kubectl"), "kustomize", str(folder)]
    shown = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    return Rendered(folder.relative_to(DEPLOY).as_posix(), _objects(shown.stdout))


@functools.cache
def charted(values: Path) -> Rendered:
    """The chart with one of its value files (ci/*-values.yaml, as helm's chart-testing names them)."""
    argv = [
        program("helm"),
        "template",
        "release",
        str(values.parents[1]),
        "--namespace",
        "mesh",
        "--values",
        str(values),
    ]
    shown = subprocess.run([*argv, "--include-crds"], capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    return Rendered(f"helm with {values.name}", _objects(shown.stdout))


def plain(file: Path) -> Rendered:
    return Rendered(file.relative_to(DEPLOY).as_posix(), _objects(file.read_text(encoding="utf-8")))


def _objects(text: str) -> tuple[Json, ...]:
    """The Kubernetes objects of a stream; a List is what is in it."""
    found: list[Json] = []
    for one in yaml.safe_load_all(text):
        if isinstance(one, dict) and {"apiVersion", "kind"} <= one.keys():
            found += one["items"] if one["kind"].endswith("List") else [one]
    return tuple(found)
