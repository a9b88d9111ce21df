"""Beam's questions about functions: the same answers, found once."""

import functools

import apache_beam as beam
import pytest
from apache_beam.transforms import core

from pipeline.runner.beam_signatures import remembered_signatures, remembering


class Doubled(beam.DoFn):
    def process(self, element, window=beam.DoFn.WindowParam, times=2):
        yield element * times


class Unhashable:
    __hash__ = None

    def __call__(self, one, two=2):
        return one + two


def plain(a, b, c="x"):
    return a, b, c


FUNCTIONS = {
    "a function": plain,
    "a lambda": lambda value, scale=3: value * scale,
    "a bound method": Doubled().process,
    "a method of the class": Doubled.process,
    "a partial": functools.partial(plain, 1),
    "a callable": Unhashable(),
    "a builtin method": str.strip,
    "a type": int,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_answers_are_beams_own_each_time(name):
    asked = remembering(core.get_function_args_defaults)
    expected = core.get_function_args_defaults(FUNCTIONS[name])
    for _ in range(3):
        args, defaults = asked(FUNCTIONS[name])
        assert (args, defaults) == expected
        args.append("of the caller")
        defaults.clear()


def test_a_method_is_inspected_once_for_all_objects():
    inspected = []

    def counted(function):
        inspected.append(function)
        return core.get_function_args_defaults(function)

    asked = remembering(counted)
    for _ in range(5):
        asked(Doubled().process)
        asked(plain)
    assert len(inspected) == 2
    assert asked(Doubled.process)[0][0] == "self"
    assert len(inspected) == 3


def test_beam_is_as_it_was_afterwards():
    before = core.get_function_args_defaults
    with remembered_signatures():
        assert core.get_function_args_defaults is not before
        with beam.Pipeline() as pipeline:
            results = pipeline | beam.Create([1, 2]) | beam.ParDo(Doubled()) | beam.Map(lambda value: value)
            _ = results | beam.combiners.ToList() | beam.Map(check)
    assert core.get_function_args_defaults is before
    with pytest.raises(RuntimeError, match="stopped"), remembered_signatures():
        raise RuntimeError("stopped")
    assert core.get_function_args_defaults is before


def check(values):
    assert sorted(values) == [2, 4]
