"""charlstm completion: the script by which a shell completes this command line.

At every TAB the script runs `charlstm` with the line up to the cursor in `COMP_WORDS`.
`_CHARLSTM_COMPLETE` makes it print what can follow, which click finds out. Click's own scripts
split words at equals signs, put a blank behind them and cut descriptions at commas; those below do
not.
"""

import os

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    split_arg_string,
)

from charlstm.cli.options import debug_option
from charlstm.cli.streams import write


class Shell(ShellComplete):
    """A shell whose script takes a line for each thing it offers: kind, value and description,
    with tabs between."""

    def source(self) -> str:
        return self.source_template

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words behind the command, and the one that is begun, which may be empty."""
        words = split_arg_string(f"{os.environ['COMP_WORDS']}.")[1:]  # the dot keeps an empty word
        return words[:-1], words[-1][:-1] if words else ""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Whole words: click drops the option in front of --option=value."""
        items = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if equals and option.startswith("-"):
            for item in items:
                item.value = f"{option}={item.value}"
        return items

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type}\t{item.value}\t{' '.join((item.help or '').split())}"


@add_completion_class
class Bash(Shell):
    """Bash from 4.4 on. It replaces what stands behind the last equals sign, and takes words as
    they shall stand on the line."""

    name = "bash"
    source_template = r"""# completion of charlstm in bash: eval "$(charlstm completion bash)"
_charlstm_completion() {
    local line=${COMP_LINE:0:COMP_POINT} type value help word replaced=
    word=${line##*[[:space:]]}
    [[ $COMP_WORDBREAKS == *=* ]] && replaced=${word%"${word##*=}"}
    COMPREPLY=()
    while IFS=$'\t' read -r type value help; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                value=${value#"$replaced"}
                [[ $word${COMP_WORDS[COMP_CWORD]} == *[\"\']* ]] || printf -v value %q "$value"
                COMPREPLY+=("$value")
                [[ $value == *= ]] && compopt -o nospace
                ;;
        esac
    done < <(COMP_WORDS=$line _CHARLSTM_COMPLETE=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _charlstm_completion charlstm
"""


@add_completion_class
class Zsh(Shell):
    """Zsh, whose descriptions stand behind a colon."""

    name = "zsh"
    source_template = r"""#compdef charlstm
# completion of charlstm in zsh: eval "$(charlstm completion zsh)", after compinit
_charlstm_completion() {
    local -a plain described blank
    local type value help line="${(j: :)words[1,CURRENT]}"
    while IFS=$'\t' read -r type value help; do
        case $type in
            dir) _path_files -/ ;;
            file) _path_files ;;
            plain)
                [[ $value == *= ]] && blank=(-S '')
                if [[ -n $help ]]; then
                    described+=("${value//:/\\:}:$help")
                else
                    plain+=("$value")
                fi
                ;;
        esac
    done < <(COMP_WORDS=$line _CHARLSTM_COMPLETE=zsh_complete ${words[1]} 2>/dev/null)
    (( $#described )) && _describe -V charlstm described -U "${blank[@]}"
    (( $#plain )) && compadd -U -V charlstm "${blank[@]}" -a plain
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _charlstm_completion "$@"
else
    compdef _charlstm_completion charlstm
fi
"""


@add_completion_class
class Fish(Shell):
    """Fish, which puts no blank behind an equals sign by itself."""

    name = "fish"
    source_template = r"""# completion of charlstm in fish: charlstm completion fish | source
function _charlstm_completion
    set -lx _CHARLSTM_COMPLETE fish_complete
    set -lx COMP_WORDS (commandline -cp)
    for line in (charlstm 2>/dev/null)
        set -l item (string split -m 2 \t -- $line)
        switch $item[1]
            case dir
                __fish_complete_directories $item[2]
            case file
                __fish_complete_path $item[2]
            case plain
                printf '%s\t%s\n' $item[2] $item[3]
        end
    end
end
complete --no-files --command charlstm --arguments '(_charlstm_completion)'
"""


SHELLS = {shell.name: shell for shell in (Bash, Zsh, Fish)}


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)), metavar="bash|zsh|fish")
@debug_option
def completion(shell: str) -> None:
    """Print the script by which a shell completes this command line: commands, options,
    configurations, --set keys and their values, and files.

    \b
      bash   eval "$(charlstm completion bash)" in ~/.bashrc
      zsh    eval "$(charlstm completion zsh)" in ~/.zshrc, after compinit
      fish   charlstm completion fish | source in ~/.config/fish/config.fish
    """
    write(SHELLS[shell].source_template)
