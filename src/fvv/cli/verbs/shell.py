"""Verbs about settings and the shell."""

from __future__ import annotations

import argparse

from fvv.cli.verbs.verb import Verb
from fvv.config import Config
from fvv.stages import Printed, StageResult


def _settings_options(verb: argparse.ArgumentParser) -> None:
    """Print the settings in force (defaults, then -c, then --set), with what each means and its default."""
    verb.add_argument("section", nargs="?", default="", metavar="SECTION", help="only this section, such as train")
    meaning = "print the JSON Schema of a settings file instead, for editors"
    verb.add_argument("--json-schema", action="store_true", help=meaning)


def _settings(options: argparse.Namespace, config: Config) -> StageResult:
    from fvv.cli.settings import as_yaml, json_schema  # noqa: PLC0415

    return Printed(json_schema() if options.json_schema else as_yaml(config, options.section))


SETTINGS = Verb(
    _settings_options,
    _settings,
    "",
    ("fvv settings train", "fvv settings -c demo", "fvv settings --json-schema > fvv.schema.json"),
)


def _completion_options(verb: argparse.ArgumentParser) -> None:
    """Print a script that lets the shell complete verbs and options."""
    verb.add_argument("shell", choices=("bash", "zsh"), metavar="SHELL", help="shell that reads the script")


def _completion(options: argparse.Namespace, _: Config) -> StageResult:
    from fvv.cli.completion import completion_script  # noqa: PLC0415
    from fvv.cli.parser import build_parser  # noqa: PLC0415

    return Printed(completion_script(build_parser(), options.shell).rstrip())


COMPLETION = Verb(_completion_options, _completion, "", ('eval "$(fvv completion bash)"',))
