"""Selects Keras 2 before any test module imports TensorFlow or TFRS, and orders tests for two workers."""

import functools
import gc
import os
import pathlib
import re

import pytest

import tfrec_fusion  # noqa: F401

# ranx, a witness of few numbers, would compile for a minute what Python computes in one second.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

SECONDS = {"e2e": 40.0, "slow": 12.0}  # of a test with this mark, about, to order groups by
QUICK = 0.2  # of any other
SHARED_RUN = re.compile(r"shared_run\(\"(\w+)\"\)")


@functools.cache
def group_of(file: str) -> str:
    """What one worker takes: a file, whose fixtures are shared, or all files that read one run."""
    shared = SHARED_RUN.search((pathlib.Path(__file__).parents[1] / file).read_text(encoding="utf-8"))
    return shared.group(1) if shared else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deals out groups. pytest-xdist 3.8 writes its own groups (`--dist loadgroup`) into an attribute that
    pytest 9.2 no longer reads, and then deals out single tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid.split("::")[0])

    config.option.loadscopereorder = False  # the order is that of `pytest_collection_modifyitems`
    return ByGroup(config, log)


def pytest_collection_modifyitems(items):
    """The longest groups come first, so that no worker is left with one of them at the end."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(item.nodeid.split("::")[0]), []).append(item)

    def weight(group: list[pytest.Item]) -> float:
        return sum(
            next((seconds for mark, seconds in SECONDS.items() if item.get_closest_marker(mark)), QUICK)
            for item in group
        )

    items[:] = [item for group in sorted(groups.values(), key=weight, reverse=True) for item in group]


@pytest.fixture(scope="session")
def data():
    """Planted data that models are served with."""
    from tfrec_fusion.datasets.synthetic import planted

    return planted(num_users=20, circles=3, circle_size=6, walk=4)


@pytest.fixture(scope="session")
def profiles(data):
    """Its users."""
    from tests.planted_serving import user_profiles

    return user_profiles(data)


@pytest.fixture(scope="session")
def saved(data, profiles, tmp_path_factory):
    """Folders of the saved recommender and of the two models alone, for all tests of the group `saved`."""
    from tests.planted_serving import save_models

    return save_models(data, profiles, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(saved, tmp_path_factory):
    """A server of what is saved, over REST and gRPC."""
    from tfrec_fusion.serving.server.embedded import EmbeddedServer

    root = tmp_path_factory.mktemp("served")
    for name, folder in saved.items():
        (root / name).mkdir()
        (root / name / "1").symlink_to(folder, target_is_directory=True)
    with EmbeddedServer({name: str(root / name) for name in saved}, grpc_port=0) as running:
        running.wait_ready(600)
        yield running


def pytest_collection_finish():
    """What imports made stays for good: the garbage collector need not walk it again and again."""
    gc.collect()
    gc.freeze()
