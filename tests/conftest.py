"""Selects Keras 2 before any test module imports TensorFlow or TFRS, and orders tests for two workers."""

import gc

import pytest

import tfrec_fusion  # noqa: F401


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in this hook too
def pytest_collection_modifyitems(items):
    """Files go to workers whole, since their fixtures are shared; files that share a run are one group.

    The longest groups come first, so that no worker is left with one of them at the end.
    """
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        mark = item.get_closest_marker("shared_run")
        groups.setdefault(mark.args[0] if mark else item.nodeid.split("::")[0], []).append(item)
    for name, members in groups.items():
        for item in members:
            item.add_marker(pytest.mark.xdist_group(name))

    def weight(group: list[pytest.Item]) -> int:
        marks = ("e2e", "slow")
        return sum(1 + sum(9 for mark in marks if item.get_closest_marker(mark)) for item in group)

    items[:] = [item for group in sorted(groups.values(), key=weight, reverse=True) for item in group]


def pytest_collection_finish():
    """What imports made stays for good: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()
