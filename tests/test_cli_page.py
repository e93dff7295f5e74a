"""The page about the command: every example on it is run, on a terminal, and prints what the page says."""

from __future__ import annotations

import doctest
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

from cli_helpers import PATIENCE, commands, environment

PAGE = Path(__file__).resolve().parent.parent / "docs/cli.md"
SESSION = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STEP = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
MARK = "\x1e"  # nothing prints it


def steps_of(page: str) -> list[tuple[str, str]]:
    """Each command of the page and what it prints there."""
    return [(command, shown) for session in SESSION.findall(page) for command, shown in STEP.findall(session)]


def on_a_terminal(script: str, directory: Path) -> str:
    """What a script of bash prints on a terminal of 100 columns."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=directory, stdin=subprocess.DEVNULL, stdout=there, stderr=there,
        env=environment(TERM="xterm", NO_COLOR="1"),
    )  # fmt: skip
    os.close(there)
    text = b""
    try:
        while select.select([here], [], [], PATIENCE)[0]:
            text += os.read(here, 1 << 16)
    except OSError:  # as the last one on it has gone
        pass
    os.close(here)
    assert process.wait(PATIENCE) == 0
    return re.sub(r"\x1b\[[01]m", "", text.decode().replace("\r\n", "\n"))  # bold, which is no colour


def test_every_example_of_the_page_prints_what_it_says(tmp_path: Path) -> None:
    steps = steps_of(PAGE.read_text())
    if shutil.which("jq") is None:
        steps = [(command, shown) for command, shown in steps if "jq" not in command]  # they change nothing
    (program,) = (shown for command, shown in steps if command == "cat words.py")
    (tmp_path / "words.py").write_text(program)
    assert len(steps) > 25
    script = f'tastypy() {{ "{sys.executable}" -m tastypy "$@"; }}\npython() {{ "{sys.executable}" "$@"; }}\n'
    script += 'jq() { command jq --monochrome-output "$@"; }\n'
    script += (
        "".join(f"{command}\n(exit $?); code=$?; printf '{MARK}'; (exit $code)\n" for command, _ in steps) + "exit 0\n"
    )
    printed = on_a_terminal(script, tmp_path).split(MARK)
    checker = doctest.OutputChecker()
    for (command, shown), output in zip(steps, printed, strict=False):
        assert checker.check_output(shown, output, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), (
            f"$ {command}\n{output}\n(the page has:)\n{shown}"
        )
    assert len(printed) == len(steps) + 1


def test_every_command_has_an_example_on_the_page() -> None:
    page = PAGE.read_text()
    documented = {"doctor", *re.findall(r"^(?:\$ )?.*?\btastypy (\w+)", page, re.MULTILINE)}
    assert set(commands()) - {"plot"} <= documented
    overview = page.partition("What holds for all")[0]
    assert set(re.findall(r"\[`(\w+)`\]", overview)) == set(commands())
