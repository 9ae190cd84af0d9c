"""The parser of the command line: verbs in groups, examples under every help, hints for what is misspelt."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from fvv import __version__
from fvv.cli.options import assignment, named_path
from fvv.cli.settings import PACKAGED
from fvv.cli.verbs import GROUPS, VERBS
from fvv.names import did_you_mean

_EXAMPLES = (
    "fvv predict new_patient -o results",
    "fvv verify -i input_data",
    "fvv train --help",
)


class _Parser(argparse.ArgumentParser):
    """Wrong usage is one line: the list of all options is in the help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command line; wrong usage exits with 2 and, where one is near, names the right word.

    Args:
        argv: the words after `fvv`; None: those this process was started with.
    """
    parser = build_parser()
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((word for word in words if not word.startswith("-")), None)
    if not words:
        parser.error("give a verb, such as `fvv predict`")
    if verb is not None and verb not in VERBS:
        parser.error(f"there is no verb {verb!r}{did_you_mean(verb, VERBS)}")
    options, unknown = parser.parse_known_args(words)
    if unknown:
        its_parser = verb_parsers(parser)[options.verb]
        first = unknown[0].partition("=")[0]
        known = [flag for action in its_parser._actions for flag in action.option_strings]
        if first in known:
            its_parser.error(f"{first!r} must follow the verb; only --help and --version may stand before it")
        if first.startswith("-"):
            its_parser.error(f"there is no option {first!r}{did_you_mean(first, known)}")
        two = "; give two images with --b0 FILE --b1000 FILE" if options.verb == "predict" else ""
        its_parser.error(f"unexpected argument {first!r}{two}")
    return options


def build_parser() -> argparse.ArgumentParser:
    """All verbs and their options; help shows the defaults of `fvv.config`."""
    parser = _Parser(
        prog="fvv",
        description="FLAIR Visibility Volume: how much of a stroke lesion would be visible on FLAIR, from b0 and b1000 "
        "alone. For research use only.",
        epilog=f"{_grouped()}\n\n{_examples(_EXAMPLES)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="fvv VERB [options]",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fvv {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", help="one of the verbs below", prog="fvv")
    for name, verb in VERBS.items():
        its_parser = verbs.add_parser(
            name,
            description=verb.about,
            epilog=_examples(verb.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.add_options(its_parser)
        _add_common_options(its_parser)
    return parser


def verb_parsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parser of each verb."""
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices


def _grouped() -> str:
    """The verbs with their first lines, in groups."""
    lines = []
    for title, names in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<12}{VERBS[name].about}" for name in names)]
    return "\n".join(lines[1:])


def _examples(examples: Sequence[str]) -> str:
    return "\n".join(["examples:", *(f"  {example}" for example in examples)])


def _add_common_options(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("settings and messages")
    meaning = f"YAML file of settings, or the name of one in the package: {', '.join(PACKAGED)}"
    group.add_argument("-c", "--config", type=named_path, metavar="FILE|NAME", help=meaning)
    meaning = "one setting, such as train.epochs=10; may be repeated (fvv settings lists all)"
    group.add_argument("--set", action="append", default=[], type=assignment, metavar="KEY=VALUE", help=meaning)
    group.add_argument("--verbose", action="store_true", help="log more, and show where an error came from")
