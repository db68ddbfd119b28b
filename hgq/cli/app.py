"""The Typer app. A verb is one row of `VERBS` and one module with a function `command`, whose docstring is its help.

A verb's module imports nothing heavy at its top: it is loaded to print ``hgq --help``. What a verb needs, it imports inside `command`.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

from hgq import __version__
from hgq.cli import _conflict, _output
from hgq.errors import HGQError

TRAIN, MODEL, SYSTEM = "From data to a model", "From a model to firmware", "This installation"

VERBS: dict[str, tuple[str, str]] = {
    "demo": ("hgq.cli.demo", TRAIN),
    "train": ("hgq.cli.train", TRAIN),
    "sweep": ("hgq.cli.sweep", TRAIN),
    "import": ("hgq.cli.import_", TRAIN),
    "freeze": ("hgq.cli.freeze", TRAIN),
    "inspect": ("hgq.cli.inspect", MODEL),
    "why": ("hgq.cli.why", MODEL),
    "diff": ("hgq.cli.diff", MODEL),
    "estimate": ("hgq.cli.estimate", MODEL),
    "export": ("hgq.cli.export", MODEL),
    "verify": ("hgq.cli.verify", MODEL),
    "report": ("hgq.cli.report", MODEL),
    "doctor": ("hgq.cli.doctor", SYSTEM),
}
"""Verb -> (module, panel in the help). A verb whose module does not exist yet is not listed."""

BUG = 70
"""Exit code of an error nobody foresaw; 1 would read as a mismatch (`EX_SOFTWARE` of sysexits.h)."""
BROKEN_PIPE = 141
"""Exit code when the reader of stdout went away, as a shell reports it (128 + SIGPIPE)."""


def build() -> typer.Typer:
    """The app with every verb that exists."""
    app = typer.Typer(
        name="hgq",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_hgq)
    for verb, (module, panel) in VERBS.items():
        if find_spec(module) is not None:
            app.command(verb, rich_help_panel=panel)(import_module(module).command)
    return app


def run(arguments: list[str] | None = None) -> None:
    """Parse the arguments, run the verb, and leave with its exit code."""
    debug = _debug_level()
    _conflict.warn()
    try:
        _run_verb(arguments)
    except HGQError as error:
        _leave(error, debug)
    except ImportError as error:
        from hgq.plugins import missing_package

        _leave(missing_package(error) or error, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains when it flushes
        sys.exit(BROKEN_PIPE)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        _leave(error, debug)


def _run_verb(arguments: list[str] | None) -> None:
    out = sys.stdout
    try:
        build()(args=arguments, prog_name="hgq")
    except SystemExit:
        if sys.stdout is not out:  # click's answer to a reader that went away; its exit code, 1, would read as a mismatch
            sys.stdout = out
            raise BrokenPipeError from None
        out.flush()  # now: while the interpreter shuts down it is too late to deal with such a reader
        raise


def _leave(error: Exception, debug: int) -> None:
    """Show `error` on one screen and exit."""
    if debug:
        traceback.print_exception(error)
    if isinstance(error, HGQError):
        _output.show_error(error)
        sys.exit(error.exit_code)
    if not debug:
        lines = "".join(traceback.format_exception(error)).splitlines()
        sys.stderr.write("\n".join(lines if len(lines) <= 40 else [*lines[:6], "  …", *lines[-30:]]) + "\n")
    _output.show_bug(error)
    sys.exit(BUG)


def _debug_level() -> int:
    """``HGQ_DEBUG``: 0 quiet, 1 tracebacks and informational log, 2 and more the debug log too."""
    text = os.environ.get("HGQ_DEBUG", "0")
    level = int(text) if text.isdecimal() else 1
    if level:
        logging.basicConfig(stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
        logging.getLogger("hgq").setLevel(logging.INFO if level == 1 else logging.DEBUG)
    return level


def _version(wanted: bool) -> None:
    if wanted:
        _output.result(f"hgq {__version__}")
        raise typer.Exit


def _hgq(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")] = False,
) -> None:
    """Train neural networks with a bitwidth of its own for every weight, and turn them into verified FPGA firmware.

    Exit codes: 0 done; 1 mismatch, or budget missed; 2 usage, or bad input; 3 a tool is missing. HGQ_DEBUG=1 shows tracebacks.
    """
