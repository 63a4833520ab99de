"""The registry: names, closest matches, temporary entries, plug-ins."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass

import pytest

from an8flower.ground.registry import Registry, UnknownNameError


@dataclass(frozen=True)
class Entry:
    name: str


@pytest.fixture
def registry():
    registry: Registry[Entry] = Registry("thing", package="an8flower.variants", group="an8flower.tests")
    for name in ("beta", "alpha"):
        registry.add(Entry(name))
    return registry


def test_names_are_sorted_and_entries_found(registry):
    assert registry.names() == ("alpha", "beta")
    assert registry.get("alpha") == Entry("alpha")


def test_a_name_is_taken_once(registry):
    entry = registry.get("alpha")
    assert registry.add(entry) is entry
    with pytest.raises(ValueError, match="thing 'alpha' is registered twice"):
        registry.add(Entry("alpha"))


def test_a_reloaded_module_replaces_its_entries(registry, tmp_path, monkeypatch):
    file = tmp_path / "reloaded_methods.py"
    text = "from test_registry import Held, holder\n\n\ndef f(): ...\n\n\nholder[0].add(Held('mine', f))\n"
    file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    holder[:] = [registry]
    import reloaded_methods

    first = registry.get("mine")
    importlib.reload(reloaded_methods)
    assert registry.get("mine") is not first
    with pytest.raises(ValueError, match="registered twice"):
        exec(text.partition("\n")[2], vars(reloaded_methods))


@dataclass(frozen=True)
class Held:
    name: str
    call: object


holder: list[Registry] = []


def test_an_unknown_name_offers_the_closest(registry):
    with pytest.raises(UnknownNameError, match=r"unknown thing 'alfa'; did you mean 'alpha'\?"):
        registry.get("alfa")
    with pytest.raises(UnknownNameError, match="unknown thing 'zzz'; known are 'alpha', 'beta'"):
        registry.get("zzz")


def test_what_is_registered_temporarily_is_gone_afterwards(registry):
    alpha, other = registry.get("alpha"), Entry("alpha")
    with registry.temporarily(Entry("gamma"), other):
        registry.add(Entry("delta"))
        assert registry.names() == ("alpha", "beta", "delta", "gamma")
        assert registry.get("alpha") is other
        with registry.temporarily():
            registry.add(Entry("epsilon"))
        assert "epsilon" not in registry.names()
    assert registry.names() == ("alpha", "beta") and registry.get("alpha") is alpha
    with pytest.raises(KeyError), registry.temporarily(Entry("gamma")):
        raise KeyError
    assert registry.names() == ("alpha", "beta")


class Point:
    value = "somebody.elses:plugin"

    def __init__(self, loaded: object) -> None:
        self._loaded = loaded

    def load(self) -> object:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def test_entry_points_join_and_a_broken_one_takes_nobody_with_it(registry, monkeypatch):
    points = [Point(ImportError("no module named gone")), Point(Entry("gamma")), Point(registry)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    with pytest.warns(
        UserWarning, match="'somebody.elses:plugin' is left out: ImportError: no module named gone"
    ):
        names = registry.names()
    assert names == ("alpha", "beta", "gamma")
