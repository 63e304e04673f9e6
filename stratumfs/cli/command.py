"""What all commands share: how an App is made, how its outcome becomes output and an exit code.

Results go to standard output, words about failure to standard error, one line each, after the command's name. A
traceback is shown only for what is a bug.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from io import TextIOWrapper
from typing import Any, NoReturn

from cyclopts import App, CycloptsError
from rich.console import Console

from stratumfs.cli.exit import Exit, exit_code
from stratumfs.owner.blame import is_expected
from stratumfs.owner.messages import OwnerError


def make_app(name: str, usage: str | None, summary: str, examples: str) -> App:
    """An App that raises instead of exiting, and whose ``--help`` ends with *examples*, one command a line.

    usage   the command line after ``Usage:``; None for one with subcommands
    """
    return App(
        name=name,
        usage=usage,
        help=summary,
        help_format="plaintext",
        help_formatter="plain",
        help_epilogue="Examples:\n" + examples.rstrip(),
        version=f"{name} {installed_version()}",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )


def run(
    app: App,
    arguments: list[str] | None = None,
    code_of: Callable[[BaseException], int] = exit_code,
    *,
    usage: int = Exit.USAGE,
    interrupted: int = Exit.INTERRUPTED,
) -> NoReturn:
    """Run a command and exit by the table in ``cli/exit.py``. *code_of*, *usage* and *interrupted* let the helpers of
    mount(8) and fsck(8) keep to their manuals."""
    name = app.name[0]
    tokens = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names may be any bytes
    try:
        outcome = app(tokens, exit_on_error=False, print_error=False, console=_console())
        sys.stdout.flush()
    except CycloptsError as error:
        message = " ".join(str(error).split())
        complain(name, f"{message} (`{name} --help` shows how)")
        code = usage
    except KeyboardInterrupt:
        complain(name, "interrupted")
        code = interrupted
    except BrokenPipeError:
        # The reader of our output left, as `head` does; Python would complain once more while it shuts down.
        with suppress(OSError):
            sys.stdout.close()
        code = int(Exit.OK)
    except Exception as error:
        code = code_of(error)
        if is_expected(error) or isinstance(error, OwnerError):
            complain(name, describe(error))
        else:
            traceback.print_exc()
            complain(name, f"this is a bug: {type(error).__name__}: {error}")
    else:
        code = outcome if isinstance(outcome, int) else Exit.OK
    sys.exit(int(code))


def complain(name: str, message: str) -> None:
    """One line on standard error."""
    with suppress(OSError):
        print(f"{name}: {' '.join(message.split())}", file=sys.stderr)


def describe(error: BaseException) -> str:
    """An error's own words; an OSError with its file's name."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output, keys in the order given."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def installed_version() -> str:
    try:
        return version("stratumfs")
    except PackageNotFoundError:
        return "unknown"


def _console() -> Console:
    """Help as plain lines of one width everywhere, so that it can be compared with the manual."""
    return Console(width=100, highlight=False, no_color=True, soft_wrap=False)
