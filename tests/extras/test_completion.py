"""What shells complete with the script that `tastypy completion` prints."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import PATIENCE, alone, commands, environment

pytest.importorskip("shtab")

# as bash does at the Tab key: the words so far, the last of which is to be completed
BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
function=$(complete -p tastypy | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" tastypy "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C "$argv[2..]" | string split --fields 1 \\t'


def completed(shell: str, directory: Path, *words: str) -> set[str]:
    """What the shell offers for the last of the words, in a directory with a POD, another directory and a file."""
    for name in ("my.pod", "other"):
        (directory / name).mkdir(exist_ok=True)
    (directory / "my.txt").touch()
    script = directory / f"script.{shell}"
    if not script.exists():
        script.write_text(alone("completion", shell).stdout)
    program = [shell, "-c", BASH, "bash"] if shell == "bash" else [shell, "-c", FISH]
    done = subprocess.run(
        [*program, str(script), *words], cwd=directory, env=environment(HOME=str(directory)), capture_output=True, text=True,
        check=True, timeout=PATIENCE,
    )  # fmt: skip
    return {line.rstrip("/") for line in done.stdout.splitlines()} - {""}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_options_and_directories_are_completed(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    assert completed(shell, tmp_path, "tastypy", "") >= {*commands()}
    assert completed(shell, tmp_path, "tastypy", "stat") == {"status"}
    assert completed(shell, tmp_path, "tastypy", "log", "my.pod", "--fol") == {"--follow"}
    for command in ("ls", "set", "doctor", "watch"):
        assert completed(shell, tmp_path, "tastypy", command, "") == {"my.pod", "other"}
    assert completed(shell, tmp_path, "tastypy", "completion", "") == {"bash", "zsh", "fish"}


def test_the_script_of_zsh_is_one(tmp_path: Path) -> None:
    script = alone("completion", "zsh").stdout
    assert script.startswith("#compdef tastypy\n")
    if shutil.which("zsh") is not None:
        (tmp_path / "_tastypy").write_text(script)
        subprocess.run(["zsh", "-n", str(tmp_path / "_tastypy")], check=True, timeout=PATIENCE)


def test_without_shtab_one_line_tells_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "shtab.py").write_text("raise ImportError('not installed')")
    done = alone("completion", "bash", env=environment(PYTHONPATH=f"{tmp_path}:{':'.join(filter(None, sys.path))}"))
    told = "tastypy: completion needs shtab: pip install 'tastypy[completion]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)
