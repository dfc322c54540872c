"""Runs TFC's own tests of a class with our drop-in in its place."""

from __future__ import annotations

import functools
import unittest
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from entropyd import tfc as drop_in

if TYPE_CHECKING:
    from types import ModuleType

    import pytest

    import entropyd


def names_of(case: type[unittest.TestCase]) -> list[str]:
    """The tests of a case, but for what tf.test.TestCase brings itself."""
    return [name for name in unittest.TestLoader().getTestCaseNames(case) if name != "test_session"]


def run_passing(
    test: unittest.TestCase,
    remote: type[Any],
    module: ModuleType,
    client: entropyd.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Any]:
    """Runs one of TFC's tests, for which `module` gets `remote` in the place of TFC's class of that name.

    Asserts that it passes and calls the class; returns the objects made, none in a test that wants an error.
    """
    calls, made = 0, []

    @functools.wraps(remote)
    def of_client(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        made.append(remote(*arguments, client=client, **named))
        return made[-1]

    name = remote.__name__.removeprefix("Remote")
    assert hasattr(module, name)
    monkeypatch.setattr(module, name, of_client)
    result = unittest.TestResult()
    with tf.keras.utils.custom_object_scope(drop_in.custom_objects(client)):
        test.run(result)
    assert result.wasSuccessful(), "\n".join(text for _, text in result.failures + result.errors)
    assert result.testsRun == 1
    assert calls
    return made
