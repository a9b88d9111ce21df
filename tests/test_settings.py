"""Every number of a configuration has a range, and a value outside it is refused with the key's full name."""

import dataclasses
import math
import re
import typing

import pytest
from annotated_types import Interval

from pipeline.config.pipeline_config import PipelineConfig, load_config
from tfrec_fusion import config as library
from tfrec_fusion.config import ConfigError, Settings, TowerConfig, from_dict
from tfrec_fusion.datasets import Csv


def numbers(hint, key: str):
    """(key, type, range) of each number in an annotation, settings inside settings included."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated and arguments[0] in (int, float):
        yield key, arguments[0], arguments[1]
    elif hint in (int, float):
        yield key, hint, None
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, include_extras=True)
        for field in dataclasses.fields(hint):
            yield from numbers(hints[field.name], f"{key}.{field.name}" if key else field.name)
    elif origin is tuple and dataclasses.is_dataclass(arguments[0]):
        yield from numbers(arguments[0], f"{key}[0]")
    elif origin is dict and dataclasses.is_dataclass(arguments[1]):
        yield from numbers(arguments[1], f"{key}.x")
    elif origin is not typing.Literal:
        for argument in arguments:
            yield from numbers(argument, key)


ALL = list(numbers(PipelineConfig, ""))


def nested(key: str, value: object) -> dict:
    """The mapping in which `key` has the value, in whatever collection its field wants."""
    for name in reversed(key.split(".")):
        value = {name.removesuffix("[0]"): [value] if name.endswith("[0]") else value}
    return value


def test_every_number_has_a_range():
    assert len(ALL) > 70
    assert [key for key, _, bounds in ALL if bounds is None] == []
    for name in library.__all__:
        made = getattr(library, name)
        if isinstance(made, type) and dataclasses.is_dataclass(made):
            assert issubclass(made, Settings)
            assert [key for key, _, bounds in numbers(made, name) if bounds is None] == []


def outside(kind: type, bounds: Interval) -> list:
    """A number just outside each end, and what is outside of any range."""
    results = [] if kind is int else [math.nan, math.inf, -math.inf]
    for bound, beyond in ((bounds.ge, -1), (bounds.le, 1)):
        if bound is not None:
            results.append(bound + beyond if kind is int else math.nextafter(bound, beyond * math.inf))
    return results + [bound for bound in (bounds.gt, bounds.lt) if bound is not None]


@pytest.mark.parametrize(("key", "kind", "bounds"), ALL, ids=[key for key, _, _ in ALL])
def test_a_number_outside_its_range_is_refused(key, kind, bounds):
    refused = outside(kind, bounds)
    assert refused
    for value in refused:
        messages = []
        for shape in (value, [value], {"x": value}, {"x": {"x": value}}):
            with pytest.raises(ConfigError) as caught:
                from_dict(PipelineConfig, nested(key, shape))
            messages.append(str(caught.value))
        text = rf"`{re.escape(key)}[\w.\[\]]*` must be (at|above|below|a finite)"
        assert any(re.search(text, message) for message in messages), messages


def test_all_mistakes_are_named_at_once():
    sets = [
        "retrieval.tower.dropout=5",
        "retrieval.training.epochs=-1",
        "retrieval.tower.dim=-3",
        "index.recall_target=7",
        "retrieval.temperature=-1",
        "ranking.head=dcm",
        "evaluation.k=[0, 10]",
        "serving.rest_prt=1",
    ]
    with pytest.raises(ConfigError) as caught:
        load_config("movielens_100k", sets)
    first, *named = str(caught.value).splitlines()
    assert first == "8 settings cannot be used:"
    assert sorted(named) == [
        "  Unknown key `serving.rest_prt`. Did you mean `rest_port`?",
        "  `evaluation.k[0]` must be at least 1 and at most 100,000. Received: 0.",
        "  `index.recall_target` must be above 0 and at most 1. Received: 7.",
        (
            "  `ranking.head` must be one of 'mlp', 'dcn', 'dlrm', 'deepfm', or the import path of a Keras"
            " layer of your own, such as 'mypackage.layers.MyLayer'. Received: 'dcm'. Did you mean 'dcn'?"
        ),
        "  `retrieval.temperature` must be above 0 and at most 100. Received: -1.",
        "  `retrieval.tower.dim` must be at least 1 and at most 65,536. Received: -3.",
        "  `retrieval.tower.dropout` must be at least 0 and below 1. Received: 5.",
        "  `retrieval.training.epochs` must be at least 0 and at most 100,000. Received: -1.",
    ]


def test_a_setting_made_in_python_is_checked_too():
    with pytest.raises(
        ConfigError, match="`TowerConfig.dropout` must be at least 0 and below 1. Received: 5"
    ):
        TowerConfig(dropout=5)
    with pytest.raises(ConfigError, match="TowerConfig.dim"):
        dataclasses.replace(TowerConfig(), dim=0)


def test_what_does_not_go_together_is_named_beside_the_rest():
    sets = ["split.validation=0.6", "split.test=0.5", "retrieval.tower.dropout=2"]
    with pytest.raises(ConfigError, match="2 settings cannot be used") as caught:
        load_config("movielens_100k", sets)
    assert "together below 1" in str(caught.value)


@pytest.mark.parametrize("override", ["name=[", "retrieval.tower.dim=*x", "name.x=1", "data=3"])
def test_overrides_that_cannot_be_read(override):
    with pytest.raises(ConfigError):
        load_config("movielens_100k", [override])


def test_settings_of_tables_are_read_by_the_same_reader():
    with pytest.raises(ConfigError, match="Did you mean `delimiter`"):
        from_dict(Csv, {"delimeter": ";"})
