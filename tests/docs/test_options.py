"""What `--help` and the pages promise of options, tried on every option of both commands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.core import ParameterSource
from click.testing import CliRunner

from entropyd.cli.main import entropyd
from entropyd_server import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = settings.command(lambda _: None)


def walk(command: click.Command, *names: str) -> Iterator[tuple[str, click.Command]]:
    """Commands with their words on the command line, groups included."""
    yield " ".join(names), command
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            yield from walk(subcommand, *names, name)


COMMANDS = dict([*walk(entropyd, "entropyd"), *walk(SERVER, "entropyd-server")])
OPTIONS = {
    f"{name} {max(option.opts, key=len)}": (name, option)
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
}
# Options that set something; the others are --version, and --json where it is repeated after the command.
SETTINGS = {name: found for name, found in OPTIONS.items() if found[1].expose_value}


def context_of(name: str) -> click.Context:
    root = COMMANDS[name.split(maxsplit=1)[0]]
    inherited: dict[str, Any] = dict(root.context_settings)
    return click.Context(COMMANDS[name], parent=click.Context(root, **inherited), info_name=name)


def printed_default(name: str, option: click.Option) -> str | None:
    """What `--help` prints as the default, as it would be typed; None where it describes it, in brackets."""
    printed = option.get_help_extra(context_of(name)).get("default")
    if printed is None or printed.startswith("("):
        return None
    return "" if printed == '""' else str(printed)


DEFAULTS = {
    label: (name, option, text)
    for label, (name, option) in SETTINGS.items()
    if (text := printed_default(name, option)) is not None
}


def test_the_tree_was_found() -> None:
    assert {"entropyd", "entropyd models create", "entropyd token new", "entropyd-server"} <= set(COMMANDS)
    assert len(SETTINGS) > 60
    assert len(DEFAULTS) > 30


@pytest.mark.parametrize(("name", "option", "text"), DEFAULTS.values(), ids=DEFAULTS)
def test_every_printed_default_is_taken_and_means_the_same(
    name: str, option: click.Option, text: str
) -> None:
    context = context_of(name)
    assert option.process_value(context, text) == option.process_value(
        context, option.get_default(context, call=True)
    )


@pytest.mark.parametrize("label", OPTIONS)
def test_no_default_is_written_where_the_command_does_not_see_it(label: str) -> None:
    assert "default:" not in (OPTIONS[label][1].help or "")


def variable(label: str) -> str:
    """The variable of `entropyd compress --max-error`, as docs/cli.md says: ENTROPYD_COMPRESS_MAX_ERROR."""
    words = label.replace("entropyd-server", "entropyd").replace(" --", " ").replace("-", "_")
    return "_".join(words.split()).upper()


def sample(option: click.Option) -> str:
    """A value that is not the default."""
    if option.is_flag:
        return "1"
    if isinstance(option.type, click.Choice):
        return str(option.type.choices[-1])
    if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType)):
        return str(getattr(option.type, "max", None) or 2048)
    if option.multiple:
        return "two words"
    if option.type.name == "address":
        return "127.0.0.1:7000"
    return "coding" if option.name == "role" else "cpu"


def _typed(option: click.Option, context: click.Context) -> Any:
    text = sample(option)
    return option.process_value(context, text.split() if option.multiple else text)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_can_be_given_in_the_variable_that_is_printed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {label: option for label, (of, option) in SETTINGS.items() if of == name}
    for label, option in options.items():
        assert option.get_help_extra(context_of(name)).get("envvars") == (variable(label),)
        monkeypatch.setenv(variable(label), sample(option))
    command = COMMANDS[name]
    words = ["word" for param in command.params if isinstance(param, click.Argument)]
    context = command.make_context(name, [*words, *(["x"] if isinstance(command, click.Group) else [])])
    for option in options.values():
        assert option.name is not None
        assert context.params[option.name] == _typed(option, context)
        assert context.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT


@pytest.mark.parametrize("command", ["entropyd", "entropyd-server"])
@pytest.mark.parametrize("name", ["ENTROPYD_VERSION", "ENTROPYD_HELP", "ENTROPYD_TOKEN_NEW_HELP"])
def test_variables_of_packagers_do_not_change_what_a_command_does(
    command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "0.1.0")
    arguments = ["token", "new", "--scope", "code", "x"] if command == "entropyd" else ["--role", "coding"]
    ran = CliRunner().invoke(COMMANDS[command], arguments)
    assert ran.exit_code == 0, ran.output
    assert "version" not in ran.stdout


# Values


def test_every_choice_of_the_server_is_taken() -> None:
    for label, (name, option) in SETTINGS.items():
        if name == "entropyd-server" and isinstance(option.type, click.Choice):
            for choice in option.type.choices:
                flag = label.split()[-1]
                seen: list[settings.Settings] = []
                ran = CliRunner().invoke(settings.command(seen.append), [flag, str(choice)])
                assert (ran.exit_code, len(seen)) == (0, 1), ran.output


@pytest.mark.parametrize("scope", ["code", "model", "admin"])
def test_every_scope_makes_a_token(scope: str) -> None:
    ran = CliRunner().invoke(entropyd, ["token", "new", "--scope", scope, "ci"])
    assert (ran.exit_code, f"ci {scope} " in ran.stdout) == (0, True)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "-inf", "x", ""])
def test_a_time_to_measure_for_is_a_number_above_zero(seconds: str) -> None:
    ran = CliRunner().invoke(entropyd, ["bench", "--seconds", seconds])
    assert ran.exit_code == 2
    assert "--seconds" in ran.stderr


@pytest.mark.parametrize("option", ["--max-steps", "--prior-rank"])
def test_a_count_is_not_negative(option: str) -> None:
    ran = CliRunner().invoke(entropyd, ["fit", "--coding-rank", "1", option, "-1", "missing.npy"])
    assert ran.exit_code == 2
    assert option in ran.stderr


# Words


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_each_command_and_option_does(name: str) -> None:
    said = CliRunner().invoke(COMMANDS[name], ["--help"]).stdout
    assert all(option.help for _, option in OPTIONS.values())
    if name != "entropyd-server":
        assert "Example" in said
        assert f"    {name}" in said


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        ("compres", "'compress'"),
        ("model list", "'models'"),
        ("models lst", "'list'"),
        ("token nw", "'new'"),
        ("--jsn", "'--json'"),
        ("compress --maxerror 1", "'--max-error'"),
        ("models create --pior x", "'--prior'"),
        ("bench --second 1", "'--seconds'"),
        ("models create --prior NoisyNorml", "'NoisyNormal'"),
    ],
)
def test_a_word_that_is_nearly_right_is_answered_with_the_right_one(arguments: str, meant: str) -> None:
    ran = CliRunner().invoke(entropyd, arguments.split())
    assert ran.exit_code == 2
    assert meant in ran.stderr


JSON_PLACES = ["--json token new", "token --json new", "token new --json", "token new --scope code --json"]


@pytest.mark.parametrize("words", JSON_PLACES)
def test_json_stands_before_or_after_the_command(words: str) -> None:
    ran = CliRunner().invoke(entropyd, [*words.split(), "--scope", "code", "ci"])
    assert json.loads(ran.stdout).keys() == {"token", "line"}


@pytest.mark.parametrize("value", ["1", "true", "0", ""])
def test_json_stands_in_the_environment(value: str) -> None:
    ran = CliRunner().invoke(
        entropyd, ["token", "new", "--scope", "code", "ci"], env={"ENTROPYD_JSON": value}
    )
    assert ran.stdout.startswith("{") == (value in ("1", "true"))


def test_every_command_takes_json_after_it() -> None:
    client_commands = [name for name in COMMANDS if name != "entropyd-server"]
    assert all(f"{name} --json" in OPTIONS for name in client_commands)
