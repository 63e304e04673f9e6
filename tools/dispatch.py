"""``tools/rehearse NAME`` and ``tools/bench NAME``: each name is a module with ``main(argv) -> int | None``."""

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
ROOT = TOOLS.parent


def dispatch(kind: str, folder: str, default: str | None = None) -> int:
    """Run ``tools/<folder>/<sys.argv[1]>.py``, in the project's virtual environment.

    What is no name goes to the module *default*, all of it; if there is none, the names are listed.
    """
    environment = ROOT / ".venv"
    python = environment / "bin" / "python"
    if python.exists() and Path(sys.prefix) != environment:
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - no shell is the point
    if importlib.util.find_spec("pytest") is None:
        print(f"{kind}: the packages for tests are missing: tools/check installs them", file=sys.stderr)
        return 1
    sys.path.insert(0, str(ROOT))
    names = sorted(path.stem for path in (TOOLS / folder).glob("*.py") if not path.stem.startswith("_"))
    if default is not None and (len(sys.argv) < 2 or sys.argv[1] not in names):
        sys.argv.insert(1, default)
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        asked_for_help = len(sys.argv) == 2 and sys.argv[1] in ("-h", "--help")
        print(f"usage: {kind} NAME [OPTION...]; NAME is one of: {', '.join(names)}", file=sys.stderr)
        return 0 if asked_for_help else 2
    # Told to end it ends as by an exception, so that what it has mounted and started is taken away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    module = importlib.import_module(f"tools.{folder}.{sys.argv[1]}")
    return module.main(sys.argv[2:]) or 0
