"""What `--help` tells, what mistakes in arguments get, and how soon the command is there."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Command, commands, environment, in_process

from tastypy import POD, cli
from tastypy.commands import parsing


@pytest.fixture
def tastypy(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, in this process."""
    return in_process(capsys)


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_help_of_each_command_has_examples_and_exit_codes(tastypy: Command, name: str) -> None:
    code, out, err = tastypy(name, "--help")
    assert (code, err) == (0, "")
    examples = re.findall(rf"^  .*\btastypy {name}\b.*$", out, re.MULTILINE)
    assert examples
    assert parsing.EXIT_CODES in out
    assert "  2    it could not be done" in out
    options = {option for action in commands()[name]._actions for option in action.option_strings}
    assert ("--json prints" in out) == ("--json" in options) or name == "keys", "its form is described"


@pytest.mark.parametrize("columns", [80, 200])
def test_help_fits_the_terminal(tastypy: Command, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in commands():
        lines = tastypy(name, "--help").out.splitlines()
        # examples stay as they are, and choices have no place to be broken at
        unbreakable = [line for line in lines if re.match(r"  .*(tastypy|/)", line) or "{" in line]
        assert [line for line in lines if len(line) > columns and line not in unbreakable] == [], name
        if name == "log":
            assert max(len(line) for line in lines if line[:1].isalpha()) > min(columns, 110) * 0.8, "and no narrower"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("One two\nthree four\nfive.\n\nSix:\n", ["One two three four", "five.", "", "Six:"]),
        ("  tastypy one two three four\n  tastypy two\n", ["  tastypy one two three four", "  tastypy two"]),
        ("  tastypy one    # two three\n", ["  tastypy one    # two three"]),
        (
            "  a, b   one two three\n         four\n  c      five\n",
            ["  a, b   one two", "         three four", "  c      five"],
        ),
        ("  much longer  one two three\n", ["  much longer  one two three"]),
    ],
)
def test_paragraphs_are_wrapped_anew_and_examples_are_not(text: str, lines: list[str]) -> None:
    assert parsing.fitted_help(text, 20) == lines


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_path_comes_first_and_has_one_name(name: str) -> None:
    parser = commands()[name]
    positional = [action for action in parser._actions if not action.option_strings]
    if name == "import":  # from there to here, as all programs have it
        positional.reverse()
    assert not positional or positional[0].metavar in ("PATH", "DIR", "DIRECTORY", "SHELL")
    for action in parser._actions:
        if action.metavar in ("PATH", "DIR", "DIRECTORY", "SOURCE", "TARGET", "FILE"):
            assert callable(action.type)
            with pytest.raises(argparse.ArgumentTypeError):
                action.type("")
    assert all(action.help for action in parser._actions)
    options = {option: action for action in parser._actions for option in action.option_strings}
    for option, default in (("--json", False), ("--timeout", 300.0)):
        if option in options:
            assert options[option].default == default


def test_the_whole_help_names_each_command(tastypy: Command) -> None:
    out = tastypy("--help").out
    assert re.findall(r"^    (\w+)\b", out.partition("COMMAND\n")[2], re.MULTILINE) == [*commands()]


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["ls", ""],
        ["ls", "{}", "more"],
        ["ls", "{}", "--limit", "-1"],
        ["ls", "{}", "--limit", "1.5"],
        ["ls", "{}", "--limit", "1", "--tail", "1"],
        ["keys", "{}", "-0", "--json"],
        ["get", "{}"],
        ["get", "{}", "foo", "--raw", "--json"],
        ["set", "{}", "foo"],
        ["set", "{}", "foo", "1", "2"],
        ["set", "{}", "foo", "1", "--timeout", "-1"],
        ["set", "{}", "foo", "1", "--timeout", "nan"],
        ["del", "{}"],
        ["info"],
        ["sync", "{}", "--timeout", "soon"],
        ["check", "{}", "{}"],
        ["status", "{}", "--interval", "1"],
        ["status", "{}", "--watch"],
        ["watch", "{}"],
        ["log", "{}", "--frob"],
        ["completion"],
        ["completion", "csh"],
        ["lss"],
    ],
)
def test_a_mistake_gets_one_line_that_tells_where_help_is(path: Path, tastypy: Command, arguments: list[str]) -> None:
    POD[str, int](path)["foo"] = 1
    code, out, told = tastypy(*[argument.format(path) for argument in arguments])
    assert (code, out, told.count("\n")) == (2, "", 1)
    assert told.startswith("tastypy")
    assert "invalid " not in told or "invalid choice" in told, "which would name a function"


@pytest.mark.parametrize("place", ["{}/file", "{}/file/below", "{}/folder", "{}/nothing", "{}/" + "x" * 300])
def test_a_path_that_is_no_pod_gets_one_line(tmp_path: Path, tastypy: Command, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    place = place.format(tmp_path)
    for command in ("ls", "keys", "info", "sync", "check", "repair", "status", "watch", "log"):
        code, out, told = tastypy(command, place)
        assert (code, out, told.count("\n"), place in told) == (2, "", 1, True), told
    for command, *rest in (["get", "foo"], ["del", "foo"], ["set", "foo", "1"], ["retry", "foo"]):
        code, out, told = tastypy(command, place, *rest)
        assert (code, out, told.count("\n"), place in told) == (2, "", 1, True), told
    if "nothing" not in place:
        assert tastypy("set", place, "foo", "1", "--create").code == 2


def test_watch_of_a_plain_pod_says_what_shows_its_changes(path: Path, tastypy: Command) -> None:
    POD[str, dict[str, int]](path)["foo"] = {"depth": 1}
    code, out, told = tastypy("watch", path)
    assert (code, out, told.count("\n"), f"tastypy log {path} --follow" in told) == (2, "", 1, True)


def test_help_imports_nothing_that_only_one_command_needs() -> None:
    program = "import sys; from tastypy import cli; cli.parser(); print(*sorted(sys.modules))"
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment()
    ).stdout
    extra = {
        "rich",
        "shtab",
        "tqdm",
        "tastypy.screen",
        "tastypy.show",
        "tastypy.history",
        "tastypy.by_hand",
        "tastypy.doctor",
        "tastypy.exchange.importing",
        "tastypy.exchange.places",
    }
    assert extra.isdisjoint(out.split())
    assert cli.__name__ in out.split()
