"""Completion of verbs and options by the shell, as a script that the shell reads once."""

from __future__ import annotations

import argparse

from fvv.cli.parser import verb_parsers

_SCRIPT = """\
_fvv() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words
  case "$COMP_CWORD:${{COMP_WORDS[1]}}" in
    1:*) words="{verbs}" ;;
{options}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _fvv fvv
"""


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """A script for bash or zsh: verbs first, then the options of the verb; everything else is a file.

    Args:
        parser: of the whole command line.
        shell: `bash` or `zsh`.
    """
    verbs = verb_parsers(parser)
    cases = []
    for name, verb in verbs.items():
        flags = [flag for action in verb._actions for flag in action.option_strings]
        cases.append(f'    *:{name}) words="{" ".join(flags)}" ;;')
    script = _SCRIPT.format(verbs=" ".join(verbs), options="\n".join(cases))
    return ("autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else "") + script
