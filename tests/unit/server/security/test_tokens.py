"""Laws of tokens: who is in the file gets in, nobody else does, and nothing repeats a secret."""

from __future__ import annotations

import hashlib
import json
import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from entropyd.cli.main import entropyd
from entropyd_server.security.tokens import Caller, Scope, TokenBook

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "entropyd_" + "s" * 43


def line(name: str = "ci", scopes: str = "code", token: str = SECRET) -> str:
    return f"{name} {scopes} {hashlib.sha256(token.encode()).hexdigest()}"


def test_a_token_of_the_command_line_is_known_by_its_line() -> None:
    made = CliRunner().invoke(
        entropyd, ["--json", "token", "new", "--scope", "model", "--scope", "code", "trainer"]
    )
    assert made.exit_code == 0
    shown = json.loads(made.stdout)
    assert shown["token"] not in shown["line"]
    caller = TokenBook.parse(shown["line"].encode()).caller(shown["token"])
    assert caller is not None
    assert caller == Caller("trainer", frozenset({Scope.CODE, Scope.MODEL}))


def test_a_token_goes_to_a_new_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    path = tmp_path / "ci.token"
    arguments = ["token", "new", "--scope", "code", "--output", str(path), "ci"]
    made = CliRunner().invoke(entropyd, arguments)
    token = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in made.output
    assert TokenBook.parse(made.stdout.encode()).caller(token) is not None
    again = CliRunner().invoke(entropyd, arguments)
    assert again.exit_code == 1
    assert "exists already" in again.output
    assert path.read_text().strip() == token


def test_two_tokens_are_never_the_same() -> None:
    made = [CliRunner().invoke(entropyd, ["token", "new", "--scope", "code", "ci"]).stdout for _ in range(2)]
    assert made[0] != made[1]


@pytest.mark.parametrize("arguments", [["ci"], ["--scope", "all", "ci"], ["--scope", "code", "a/b"]])
def test_a_token_without_scope_or_with_a_bad_name_is_not_made(arguments: list[str]) -> None:
    assert CliRunner().invoke(entropyd, ["token", "new", *arguments]).exit_code == 2


def test_comments_and_empty_lines_are_left_out() -> None:
    book = TokenBook.parse(f"# who may call\n\n{line()}  # build machines\n".encode())
    assert book.caller(SECRET) is not None


def test_a_file_that_is_cut_off_knows_no_other_tokens_and_is_refused_within_a_line() -> None:
    """As it is read while it is written: the hash, which is last, tells whether a line is whole."""
    lines = [line(), line("trainer", "code,model", "other"), line("operator", "admin", "third")]
    content = ("# who may call\n" + "\n".join(lines) + "\n").encode()
    whole = {content.index(one.encode()) + len(one) for one in lines}
    for length in range(len(content)):
        begun = content[:length].decode().rpartition("\n")[2]
        if begun and not begun.startswith("#") and length not in whole:
            with pytest.raises(ValueError, match="line"):
                TokenBook.parse(content[:length])
        elif length > min(whole):
            assert TokenBook.parse(content[:length]).caller(SECRET) == Caller("ci", frozenset({Scope.CODE}))


@given(st.text(max_size=60))
def test_nobody_else_gets_in(token: str) -> None:
    book = TokenBook.parse(line().encode())
    assert (book.caller(token) is not None) == (token == SECRET)


def test_a_hash_that_begins_alike_is_not_enough() -> None:
    digest = hashlib.sha256(SECRET.encode()).digest()
    alike = digest[:-1] + bytes([digest[-1] ^ 1])
    assert TokenBook.parse(f"ci code {alike.hex()}".encode()).caller(SECRET) is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "holds no token"),
        ("# nobody\n", "holds no token"),
        (f"ci code {SECRET}", "line 1: its third field is no SHA-256"),
        (SECRET, "line 1: has 1 fields; expected NAME SCOPES SHA256"),
        (line() + "\n" + line("ci", token="other"), "ci is there twice"),  # noqa: S106
        (line() + "\n" + line("cd"), "two names have the same token"),
        (line("a/b"), "line 1: its name is not"),
        (line("x" * 65), "line 1: its name is not"),
        (line("_anybody"), "line 1: its name is not"),
        (line("ci", "code,root"), "line 1: its scopes are not among code, model, admin"),
        (line("ci", "code,"), "line 1: its scopes"),
        (line().upper(), "line 1: its scopes"),
        ("\n" + line("a/b") + "\n" + SECRET, "line 2: .*line 3: "),
        ("\x00\xff", "line 1"),
    ],
)
def test_a_bad_file_is_refused_by_line_without_what_it_holds(content: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        TokenBook.parse(content.encode("latin-1"))
    assert SECRET not in str(caught.value)


def test_of_a_file_full_of_bad_lines_the_first_are_told_and_how_many_more() -> None:
    with pytest.raises(ValueError, match=r"; line 20: has 1 fields; .*; and 99980 more$") as caught:
        TokenBook.parse(b"nonsense\n" * 100_000)
    assert len(str(caught.value)) < 2000


def test_a_file_of_many_tokens_is_read_in_time_that_grows_with_their_number() -> None:
    lines = (f"name{number} code {number:064x}\n" for number in range(100_000))
    # Of time that grows with the square, this would take minutes.
    TokenBook.parse("".join(lines).encode())
