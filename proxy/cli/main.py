"""
The command `mtls-sidecar`: one table of commands, each a module of its own that is imported only when it is asked for.

Laziness is for memory: `run` lives for months beside every workload, and what `certs` or `demo` need must not live with
it. A module of a command has `add_arguments(parser)` and `run(args) -> int`, and the int is the exit status. What no
command caught ends here, in one sentence: a traceback is for those who ask for one.
"""

import argparse
import errno
import importlib
import importlib.util
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from proxy import __version__

PROGRAM = "mtls-sidecar"
DEBUG_VARIABLE = "MTLS_SIDECAR_DEBUG"

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
EXIT_TERMINATED = 143  # 128 + SIGTERM

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a write to standard output meets where a file takes it


class Command(NamedTuple):
    """Where a command lives, and its line in --help."""

    module: str
    help: str


COMMANDS = {
    "run": Command("proxy.cli.run", "run the proxy until SIGTERM"),
    "validate": Command("proxy.cli.validate", "report every fault of a configuration file"),
    "dev": Command("proxy.cli.dev", "put the sidecar in front of a service on this machine, certificates included"),
    "demo": Command("proxy.cli.demo", "show the whole story end to end, in under 30 s"),
    "certs": Command("proxy.cli.certs", "make a development CA and SVIDs, show certificates and when they expire"),
    "probe": Command(
        "proxy.cli.probe", "explain the TLS of any address: versions, chain, identity, what it refuses and why"
    ),
    "bench": Command("proxy.cli.bench", "measure what handshakes and the relay cost, here and on other proxies"),
    "report": Command("proxy.cli.report", "who still speaks plaintext, and whether STRICT is safe now"),
    "inject": Command("proxy.cli.inject", "add the sidecar to Kubernetes YAML"),
    "webhook": Command("proxy.cli.webhook", "serve the injection as a mutating admission webhook"),
    "wait": Command("proxy.cli.wait", "wait until a sidecar is ready, as a postStart hook does"),
    "intercept": Command("proxy.cli.intercept", "program and remove a Pod's redirection rules"),
}


class _Version(argparse.Action):
    """--version; an action of its own, so that the engines are loaded only when their versions are asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from proxy.core.config import TlsConfig
        from proxy.tls.engine import installed_versions, why_not_boringssl

        print(f"{PROGRAM} {__version__} ({installed_versions()}, Python {sys.version.split()[0]})")
        if (why := why_not_boringssl(TlsConfig())) is not None:
            print(why)  # on a line of its own: the first one is for programs too
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that argv (default: the process's own arguments) asks for; returns the exit status."""
    _attend_sigterm_as_init()
    words = list(sys.argv[1:] if argv is None else argv)
    _open_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # An output that cannot say "µ" gets an escape, as standard error does.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            status = _dispatch(words)
        except SystemExit as leaving:  # argparse, after --help or a usage error
            status = leaving.code if isinstance(leaving.code, int) else EXIT_FAILED
        # Now and not at exit, where a closed pipe could only be reported as an ignored exception. By print and not by
        # flush() alone, which forgets what argparse tried to write in vain where nothing is buffered.
        print(end="", flush=True)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _discard_output()  # the reader (head, less) has seen enough
        return EXIT_BROKEN_PIPE
    except Exception as error:
        # Commands say themselves what files of theirs they cannot write, and those have names.
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            _discard_output()
            print(f"{PROGRAM}: the output is lost, standard output cannot take it: {error.strerror}", file=sys.stderr)
            return EXIT_FAILED
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print(_apology(error), file=sys.stderr)
        return EXIT_FAILED
    return status


def _attend_sigterm_as_init() -> None:
    """
    Let SIGTERM end a container of ours also before a command attends to it, and commands that never do.

    There we are PID 1, and the kernel ignores what PID 1 has no handler for: the Pod would stay for its grace period.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, _leave)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(EXIT_TERMINATED)


def available_commands() -> dict[str, Command]:
    """The commands whose module is there, in the order of the table."""
    return {name: command for name, command in COMMANDS.items() if importlib.util.find_spec(command.module)}


def _dispatch(words: list[str]) -> int:
    commands = available_commands()
    # The options of the program itself take no value, so the first word that is no option is the command.
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="A mutual-TLS sidecar proxy that explains every refusal.",
        epilog=f"`{PROGRAM} COMMAND --help` shows a command's options with examples.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, help="print the versions of this program and its TLS engines"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    module: ModuleType | None = None
    for name, command in commands.items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help, allow_abbrev=False)
        if name == chosen:
            if name == "run":
                # Whoever renews certificates may send SIGHUP ("look again") to a sidecar that is still importing, and
                # what nobody handles kills the process. There is nothing to look at again yet.
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
    args = parser.parse_args(words)
    if module is None:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    status: int = module.run(args)
    return status


def _open_standard_streams() -> None:
    """
    Put /dev/null where the caller closed standard input, output or error.

    Otherwise the next socket gets that number: what is printed would reach a peer, and libuv aborts the process when it
    has to close such a one.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            os.set_inheritable(number, True)  # workers are to have it as well
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  for as long as the process lives


def _discard_output() -> None:
    """What is still buffered goes nowhere, or the interpreter would complain about it while it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _apology(error: Exception) -> str:
    """One sentence for an exception that nobody expected; without its text, which may quote what must not be shown."""
    what = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        what = f"{what}: {error.strerror}" + (f" ({error.filename})" if error.filename else "")
    return f"{PROGRAM}: unexpected {what}; set {DEBUG_VARIABLE}=1 and run it again for the traceback to report"
