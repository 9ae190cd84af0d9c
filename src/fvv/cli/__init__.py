"""The command line: `fvv VERB`. The only place that prints and decides exit codes.

Settings come from the defaults, then the YAML file (`-c`), then `--set`, then the options that were given.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence

from fvv.cli.parser import build_parser, parse
from fvv.cli.settings import PACKAGED, settings_file
from fvv.cli.verbs import VERBS
from fvv.config import Config, load_config
from fvv.errors import FvvError, as_fvv_error, install_hint
from fvv.names import plain
from fvv.stages import StageResult
from fvv.system.cores import refuse_little_memory
from fvv.system.ending import signals_end_the_run
from fvv.system.terminal import SafeStream, safe_streams, set_up_logging

__all__ = ["build_parser", "main"]

EXIT_OK, EXIT_FAILED = 0, 1  # argparse itself exits with 2 on wrong usage; signals: see fvv.system.ending


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after `fvv`; None: those this process was started with.

    Returns:
        0, or 1 where an examination or the whole verb failed or the standard output cannot be written (full disk), or
        130 after Ctrl-C, 143 after TERM, 129 after HUP. Wrong usage exits with 2. The work goes on when the reader of
        the output leaves.
    """
    atexit.register(gc.freeze)  # Collecting all modules at the end would take a tenth of a second and free nothing.
    with safe_streams() as output:
        try:
            code = _run(argv)
        except SystemExit:  # Help, the version, wrong usage.
            if _cannot_be_written(output):
                raise SystemExit(EXIT_FAILED) from None
            raise
        return code or (EXIT_FAILED if _cannot_be_written(output) else EXIT_OK)


def _run(argv: Sequence[str] | None) -> int:
    options = parse(argv)
    set_up_logging(logging.DEBUG if options.verbose else logging.INFO)
    _silence_resource_tracker()
    with signals_end_the_run() as ending:
        try:
            refuse_little_memory()
            from fvv.system.parallel import engine  # noqa: PLC0415 - what `--help` does not need

            config = _settings(options)
            with engine(config.cluster):
                result: StageResult = VERBS[options.verb].run(options, config)
        except KeyboardInterrupt:
            # Of a library, when the signal comes between the making of a coroutine and its start.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            atexit.register(_end_quietly)
            _complain(ending.message)
            return ending.exit_code
        except ModuleNotFoundError as error:
            extra = VERBS[options.verb].extra
            if not extra or (error.name or "fvv").startswith("fvv"):
                raise
            message = f"fvv {options.verb} needs {error.name}, which is not installed"
            return _failed(FvvError(message, hint=install_hint(extra)))
        except (FvvError, OSError, MemoryError, RecursionError, ImportError) as error:
            return _failed(as_fvv_error(error), verbose=options.verbose)
    if summary := result.summary():
        print("\n".join(plain(line) for line in summary.split("\n")))
    for failure in result.failures:
        named = failure.examination_id in failure.reason
        _complain(f"failed: {failure.reason if named else f'{failure.examination_id}: {failure.reason}'}")
    return EXIT_FAILED if result.failures else EXIT_OK


def _settings(options: argparse.Namespace) -> Config:
    overrides = dict(options.set) | {key: value for key, value in vars(options).items() if "." in key}
    if options.config is None:
        return load_config(PACKAGED["demo"] if options.verb == "demo" else None, overrides)
    return load_config(settings_file(options.config), overrides)


def _silence_resource_tracker() -> None:
    """Silence multiprocessing.resource_tracker's warnings after Ctrl-C."""
    option = "ignore::UserWarning:multiprocessing.resource_tracker"
    if option not in sys.warnoptions:
        sys.warnoptions.append(option)


def _end_quietly() -> None:
    """Silence what libraries report after Ctrl-C (zarr's event loop, for one), so that our line is the last."""
    logging.disable()
    sys.unraisablehook = lambda _: None


def _failed(error: FvvError, *, verbose: bool = False) -> int:
    if verbose:
        for line in traceback.format_exc().rstrip().split("\n"):
            _complain(line)
    _complain(f"error: {error}")
    return EXIT_FAILED


def _complain(line: str) -> None:
    print(plain(line), file=sys.stderr)


def _cannot_be_written(output: SafeStream) -> bool:
    """Whether the standard output is lost, which is reported on stderr."""
    output.flush()
    if output.error is None:
        return False
    reason = getattr(output.error, "strerror", None) or output.error
    _complain(f"error: the standard output cannot be written: {reason}")
    return True
