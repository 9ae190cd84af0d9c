"""Help in groups, examples that are commands, hints for what is misspelt."""

from __future__ import annotations

import re
import shlex

import pytest

from fvv.cli import main
from fvv.cli.parser import build_parser, parse, verb_parsers
from fvv.cli.verbs import GROUPS, VERBS

# The same word for the same thing in every verb that has it.
SHORT = {"-c": "--config", "-h": "--help", "-i": "--input", "-k": "--kfolds", "-m": "--models", "-n": "--name"} | {
    "-o": "--output"
}


def test_the_help_lists_every_verb_once() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(VERBS)
    text = build_parser().format_help()
    for name in VERBS:
        assert len(re.findall(rf"^  {name} +[A-Z]", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("verb", VERBS)
def test_examples_are_commands_of_their_verb(verb: str) -> None:
    assert VERBS[verb].examples
    for example in VERBS[verb].examples:
        words = shlex.split(example.partition(">")[0].removeprefix('eval "$(').removesuffix(')"'))
        assert words[0] == "fvv"
        assert parse(words[1:]).verb == verb
        assert example in verb_parsers(build_parser())[verb].format_help()


def test_an_option_has_one_spelling_and_one_meaning() -> None:
    keys: dict[str, set[str]] = {}
    for verb in verb_parsers(build_parser()).values():
        for action in verb._actions:
            for flag in action.option_strings:
                assert re.fullmatch(r"-[a-z]|--[a-z0-9]+(-[a-z0-9]+)*", flag)
                keys.setdefault(flag, set()).add(action.dest)
            if short := [flag for flag in action.option_strings if not flag.startswith("--")]:
                assert SHORT[short[0]] in action.option_strings
    several = {flag: found for flag, found in keys.items() if len(found) > 1}
    # Seed, overwriting and number of cases are of the stage that runs.
    assert set(several) <= {"--seed", "--overwrite", "--cases"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predct", "a"], "no verb 'predct', did you mean 'predict'?"),
        (["predict", "--ouput", "a"], "no option '--ouput', did you mean '--output'?"),
        (["train", "--fold", "0", "--preload_RAM"], "did you mean '--preload-ram'?"),
        (["predict", "--xyz=3"], "no option '--xyz' (see fvv predict --help)"),
        (["predict", "a", "b"], "unexpected argument 'b'; give two images with --b0 FILE --b1000 FILE"),
        ([], "give a verb, such as `fvv predict` (see fvv --help)"),
        (["--verbose", "predict", "a"], "'--verbose' must follow the verb"),
        (["-c", "demo", "simulate"], "'-c' must follow the verb"),
    ],
)
def test_what_is_misspelt_is_named_in_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
