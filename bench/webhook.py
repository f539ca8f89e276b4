"""
What a review costs: the function alone, and over HTTPS with as many clients as the API server would have connections.

    python -m bench.webhook [--seconds 5] [--clients 4] [--json]

The Pod has two containers, four probes and a volume; the settings are the usual ones. CPU is the server's own, so that
a busy machine and the client's work do not count.
"""

import argparse
import datetime
import json
import multiprocessing
import os
import re
import resource
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tabulate import tabulate

from proxy.pod.admission import OnRefusal, answer_review
from proxy.pod.settings import TABLE, Settings

OPTIONS = {
    "identity": "csi-driver-spiffe",
    "trust-domain": "example.org",
    "allow": "spiffe://example.org/ns/web/**, spiffe://example.org/ns/shop/sa/cart",
}


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each of the two")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [_alone(args.seconds), _over_https(args.seconds, args.clients)]
    print(json.dumps(rows) if args.json else tabulate(rows, headers="keys", floatfmt=".2f"))
    return 0


def _review() -> bytes:
    def container(name: str, port: int) -> dict[str, Any]:
        probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 5}
        ports = [{"name": "http", "containerPort": port}]
        return {"name": name, "image": f"{name}:1", "ports": ports, "livenessProbe": probe, "readinessProbe": probe}

    spec = {
        "containers": [container("orders", 8080), container("cart", 8081)],
        "volumes": [{"name": "a", "emptyDir": {}}],
    }
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "shop",
        "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "orders-"}, "spec": spec},
    }
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def _alone(seconds: float) -> dict[str, Any]:
    rows = {row.name: row for row in TABLE}
    settings = Settings(**{rows[name].field: rows[name].parse(text) for name, text in OPTIONS.items()})  # type: ignore[arg-type]
    body, times = _review(), []
    before, end = _own_cpu_s(), time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        answer_review(body, settings, OnRefusal.DENY)
        times.append(time.perf_counter() - begun)
    return _row("the function alone", times, seconds, _own_cpu_s() - before)


def _own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _over_https(seconds: float, clients: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        authority = _certificate(Path(folder))
        argv = [sys.executable, "-m", "proxy", "webhook", "--listen", "127.0.0.1:0", "--drain-delay", "0"]
        argv += ["--cert", f"{folder}/tls.crt", "--key", f"{folder}/tls.key", "--log-level", "info"]
        argv += [word for name, text in OPTIONS.items() for word in (f"--{name}", text)]
        with open(f"{folder}/log", "wb") as log:
            server = subprocess.Popen(argv, stderr=log)
        try:
            port = _port(Path(folder) / "log")
            process = psutil.Process(server.pid)
            before = sum(process.cpu_times()[:2])
            with multiprocessing.Pool(clients) as pool:
                found = pool.starmap(_client, [(port, authority, seconds)] * clients)
            cpu_s = sum(process.cpu_times()[:2]) - before
        finally:
            server.terminate()
            server.wait(30)
    return _row(f"over HTTPS, {clients} clients", [one for times in found for one in times], seconds, cpu_s)


def _port(log: Path) -> int:
    for _ in range(300):
        found = re.search(r'"address":"[^"]*:([0-9]+)"', log.read_text(encoding="utf-8"))
        if found:
            return int(found[1])
        time.sleep(0.1)
    raise SystemExit(f"the webhook did not start: {log.read_text(encoding='utf-8')}")


def _client(port: int, authority: str, seconds: float) -> list[float]:
    connection = HTTPSConnection("localhost", port, context=ssl.create_default_context(cadata=authority), timeout=30)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body, times, end = _review(), [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        connection.request("POST", "/inject", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if b'"patch"' not in answer.read():
            raise SystemExit(f"a review was answered with {answer.status} and without a patch")
        times.append(time.perf_counter() - begun)
    connection.close()
    return times


def _row(what: str, times: list[float], seconds: float, cpu_s: float) -> dict[str, Any]:
    times.sort()
    return {
        "what": what,
        "reviews/s": len(times) / seconds,
        "median ms": times[len(times) // 2] * 1000,
        "99 % ms": times[len(times) * 99 // 100] * 1000,
        "CPU ms/review": cpu_s * 1000 / len(times),
    }


def _certificate(folder: Path) -> str:
    """A self-signed certificate for localhost."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(
        now + datetime.timedelta(days=1)
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    certificate = builder.add_extension(names, critical=True).sign(key, hashes.SHA256())
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.crt").write_bytes(pem)
    descriptor = os.open(folder / "tls.key", os.O_WRONLY | os.O_CREAT, 0o600)
    with open(descriptor, "wb") as file:
        file.write(private)
    return pem.decode()


if __name__ == "__main__":
    sys.exit(main())
