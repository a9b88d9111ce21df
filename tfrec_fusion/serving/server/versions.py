"""The model manager: polls base paths, loads what the policy asks for, and swaps without a gap.

A new version is loaded and warmed up while the old one serves; only then is the old one let go, and it closes
when its last request has been answered. A version that fails to load leaves everything as it was.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tfrec_fusion.serving.protocol.status import StatusError, failed_precondition, invalid_argument, not_found
from tfrec_fusion.serving.server.config_file import ModelConfig
from tfrec_fusion.serving.server.session import LoadedModel
from tfrec_fusion.serving.server.version_folders import (
    Fingerprint,
    find_versions,
    fingerprint,
    wait_until_settled,
)

logger = logging.getLogger(__name__)

NUM_LOAD_THREADS = 2
_MAX_RETIRED = 1000
"""Models that are no longer configured and whose states are still told."""

Loader = Callable[[str, str, int], LoadedModel]
"""Loads a version: (path, model name, version number) → a model ready to serve, warmed up."""


@dataclasses.dataclass
class VersionStatus:
    """Where a version is in its life.

    `state`: START, LOADING, AVAILABLE, UNLOADING or END; `code` and `message` say why a version ended in
    failure.
    """

    version: int
    state: str = "START"
    code: str = "OK"
    message: str = ""


class _Version:
    def __init__(self, number: int, path: str, model: LoadedModel | None = None):
        self.status = VersionStatus(number)
        self.path = path
        self.model = model  # until this version is loaded, the one of another base path that has its number
        self.aspired = True
        self.attempts = 0
        self.retry_at: float | None = None
        self.failed_with: Fingerprint = ()


class _Model:
    def __init__(self, config: ModelConfig):
        self.config = config
        self.versions: dict[int, _Version] = {}
        # What requests read, replaced as a whole: models by number, and the highest number.
        self.serving: dict[int, LoadedModel] = {}
        self.latest: int | None = None
        self.startup = True
        self.warned: tuple[object, ...] = ()


class ModelManager:
    """Keeps the configured models loaded.

    Args:
        configs: the models.
        load: loads one version; raises StatusError where it cannot.
        poll_seconds: how often base paths are looked at; 0 looks once.
        max_retries: how many times a version that failed to load is tried again.
        retry_seconds: the pause between tries. A folder that changed since is tried at once, for free.
        retry_at_startup: whether the very first load is retried too, before the failure is reported.
        allow_unavailable_labels: whether an unused label may name a version that is not loaded yet.
        force_unavailable_labels: whether any label may, whatever it named before.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        load: Loader,
        *,
        poll_seconds: float = 1.0,
        max_retries: int = 5,
        retry_seconds: float = 60.0,
        retry_at_startup: bool = False,
        allow_unavailable_labels: bool = False,
        force_unavailable_labels: bool = False,
    ):
        self._load = load
        self.poll_seconds = poll_seconds
        self.max_retries = max_retries
        self.retry_seconds = retry_seconds
        self.retry_at_startup = retry_at_startup
        self.allow_unavailable_labels = allow_unavailable_labels
        self.force_unavailable_labels = force_unavailable_labels
        self._models: dict[str, _Model] = {}
        self._retired: dict[str, _Model] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._loads: set[concurrent.futures.Future[None]] = set()
        self._pool = ThreadPoolExecutor(NUM_LOAD_THREADS, thread_name_prefix="model-load")
        self._thread = threading.Thread(target=self._run, name="model-poll", daemon=True)
        self._apply(configs)

    def start(self) -> None:
        """Begins to poll and load, in the background."""
        self._thread.start()

    def request_stop(self) -> None:
        """Ends polling and wakes whoever waits for a model; returns at once."""
        self._stop.set()
        self._wake.set()
        with self._changed:
            self._changed.notify_all()

    def stop(self, seconds: float | None = None) -> None:
        """Ends polling and lets every model go; waits at most so many seconds for what is being loaded."""
        self.request_stop()
        if self._thread.is_alive():
            self._thread.join(seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)
        concurrent.futures.wait(list(self._loads), seconds)
        with self._lock:
            for model in self._models.values():
                for version in model.versions.values():
                    self._unload(model, version)

    # Requests: these read what the manager swaps in one assignment, and take no lock.

    def get(self, name: str, version: int | None = None, label: str | None = None) -> LoadedModel:
        """The model that answers a request.

        Raises:
            StatusError: NOT_FOUND for an unknown model or version, INVALID_ARGUMENT for an unknown label.
        """
        if label is not None:
            version = self._labels.get(name, {}).get(label)
            if version is None:
                raise invalid_argument(f"Unrecognized servable version label: {label}")
        model = self._models.get(name)
        if version is None:
            while model is not None and (latest := model.latest) is not None:
                loaded = model.serving.get(latest)
                if loaded is not None:
                    return loaded
            raise not_found(f"Servable not found for request: Latest({name})")
        loaded = model.serving.get(version) if model is not None else None
        if loaded is None:
            raise not_found(f"Servable not found for request: Specific({name}, {version})")
        return loaded

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """States of a model's versions, highest first; of one version where it is given.

        Raises:
            StatusError: NOT_FOUND where nothing is known.
        """
        model = self._models.get(name) or self._retired.get(name)
        with self._lock:
            versions = dict(model.versions) if model else {}
            if version is not None:
                if version not in versions:
                    raise not_found(f"Could not find version {version} of model {name}")
                return [dataclasses.replace(versions[version].status)]
            if not versions:
                raise not_found(f"Could not find any versions of model {name}")
            return [dataclasses.replace(versions[number].status) for number in sorted(versions, reverse=True)]

    def knows(self, name: str) -> bool:
        """Whether a model of that name is configured."""
        return name in self._models

    def names(self) -> list[str]:
        """Names of the configured models."""
        return list(self._models)

    # Configuration

    def reload(
        self,
        configs: Sequence[ModelConfig],
        timeout: float | None = None,
        still_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Replaces the configuration and waits until models that are new in it are available.

        Args:
            configs: the models from now on.
            timeout: how long to wait, in seconds.
            still_wanted: whether somebody still waits for the answer.

        Raises:
            StatusError: the configuration is refused (the old one stays), or a new model failed to load.
        """
        with self._lock:
            new = [config.name for config in configs if config.name not in self._models]
            self._apply(configs)
        self._wake.set()
        self.wait_available(new, timeout, still_wanted)

    def _apply(self, configs: Sequence[ModelConfig]) -> None:
        labels = self._check_labels(configs)
        models: dict[str, _Model] = {}
        for config in configs:
            kept = self._models.get(config.name) or self._retired.pop(config.name, None)
            if kept is not None and kept.config.base_path != config.base_path:
                for version in kept.versions.values():  # which serve until one of the new path does
                    version.aspired = False
            models[config.name] = kept or _Model(config)
            models[config.name].config = config
        for name, model in self._models.items():
            if name not in models:
                for version in model.versions.values():
                    version.aspired = False
                    self._unload(model, version)
                self._retired[name] = model
                if len(self._retired) > _MAX_RETIRED:  # clients choose names
                    del self._retired[next(iter(self._retired))]
        self._models, self._labels = models, labels

    def _check_labels(self, configs: Sequence[ModelConfig]) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        for config in configs:
            model = self._models.get(config.name)
            for label, version in config.labels:
                available = model is not None and version in model.serving
                current = self._labels.get(config.name, {}).get(label)
                unused = current is None or current == version
                allowed = self.force_unavailable_labels or (self.allow_unavailable_labels and unused)
                if not available and not allowed:
                    raise failed_precondition(
                        f"Request to assign label to version {version} of model {config.name}, which is not "
                        "currently available for inference"
                    )
                labels.setdefault(config.name, {})[label] = version
        return labels

    def wait_available(
        self,
        names: Sequence[str] | None = None,
        timeout: float | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Waits until each of the models has a version to serve.

        Raises:
            StatusError: UNKNOWN `N servable(s) did not become available: {…}` where loading failed for good
                (models, not servables, where some are named, as TF Serving says after a reload);
                DEADLINE_EXCEEDED when the time is up; CANCELLED when the manager is stopped or the answer no
                longer wanted.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        kind = "servable" if names is None else "model"
        with self._changed:
            while not self._stop.is_set() and wanted():
                waiting = (
                    [name for name in names if name in self._models]
                    if names is not None
                    else list(self._models)
                )
                waiting = [name for name in waiting if self._models[name].latest is None]
                failures = [failure for name in waiting for failure in self._failures(self._models[name])]
                if waiting and all(self._failures(self._models[name]) for name in waiting):
                    raise StatusError(
                        "UNKNOWN",
                        f"{len(failures)} {kind}(s) did not become available: {{{''.join(failures)}}}",
                    )
                if not waiting:
                    return
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise StatusError("DEADLINE_EXCEEDED", f"Not available in time: {', '.join(waiting)}")
                self._changed.wait(1.0 if left is None else min(left, 1.0))
        raise StatusError("CANCELLED", "The server is stopping, or the request is")

    def _failures(self, model: _Model) -> list[str]:
        """What failed for good, or nothing while there is hope for one of the versions asked for."""
        aspired = [version for version in model.versions.values() if version.aspired]
        if not aspired or any(version.status.state != "END" for version in aspired):
            return []
        return [
            f"{{{{name: {model.config.name} version: {version.status.version}}} due to error: "
            f"{version.status.code}: {version.status.message}}}, "
            for version in aspired
        ]

    # The background thread

    def _run(self) -> None:
        polled = False
        while not self._stop.is_set():
            asked = self._wake.is_set()
            self._wake.clear()
            try:
                if asked or not polled or self.poll_seconds > 0:
                    self._poll()
                    polled = True
                self._retry()
            except Exception:  # polling must outlive anything the file system does
                logger.exception("Polling the model folders failed; trying again.")
            self._wake.wait(self.poll_seconds if self.poll_seconds > 0 else 1.0)

    def _poll(self) -> None:
        with self._lock:
            models = list(self._models.values())
        for model in models:
            versions = find_versions(model.config.base_path, model.config.within)
            if versions is None:
                logger.warning(
                    "Could not find base path %s for servable %s.", model.config.base_path, model.config.name
                )
                continue
            with self._lock:
                if self._models.get(model.config.name) is model:
                    self._aspire(model, versions)

    def _aspire(self, model: _Model, available: dict[int, str]) -> None:
        chosen = model.config.policy.choose(list(available))
        _warn_of_missing(model, chosen)
        for number in sorted(chosen, reverse=True):
            version = model.versions.get(number)
            ended = version is not None and version.status.state == "END"
            if version is not None and os.path.dirname(version.path) != os.path.dirname(available[number]):
                version.aspired = False
                model.versions[number] = _Version(number, available[number], version.model)
                self._submit(model, model.versions[number])
            elif version is None or (ended and (not version.aspired or version.status.code == "OK")):
                version = model.versions[number] = _Version(number, available[number])
                self._submit(model, version)
            else:
                version.aspired = True
                version.path = available[number]
        for number, version in model.versions.items():
            if number not in chosen:
                version.aspired = False
        self._release(model)

    def _release(self, model: _Model) -> None:
        """Unloads versions that are no longer asked for, once one that is asked for serves."""
        aspired = [version for version in model.versions.values() if version.aspired]
        if aspired and not any(version.status.state == "AVAILABLE" for version in aspired):
            return
        for version in model.versions.values():
            if not version.aspired:
                self._unload(model, version)

    def _submit(self, model: _Model, version: _Version) -> None:
        version.retry_at = None
        version.status.state = "LOADING"
        load = self._pool.submit(self._load_version, model, version)
        self._loads.add(load)
        load.add_done_callback(self._loads.discard)

    def _retry(self) -> None:
        with self._lock:
            waiting = [
                (model, version)
                for model in self._models.values()
                for version in model.versions.values()
                if version.aspired and version.failed_with and version.status.state in ("LOADING", "END")
            ]
        for model, version in waiting:
            changed = fingerprint(version.path) != version.failed_with
            with self._lock:
                if changed:
                    version.attempts = 0
                due = version.retry_at is not None and time.monotonic() >= version.retry_at
                if (changed or due) and version.aspired:
                    version.failed_with = ()
                    version.status.code, version.status.message = "OK", ""
                    self._submit(model, version)

    def _load_version(self, model: _Model, version: _Version) -> None:
        status = version.status
        name, number = model.config.name, status.version
        seen: Fingerprint = ()
        try:
            seen = wait_until_settled(version.path)
            loaded = self._load(version.path, name, number)
        except Exception as error:
            self._load_failed(model, version, error, seen)
            return
        with self._changed:
            if not version.aspired or self._stop.is_set():
                status.state = "END"
            else:
                weakref.finalize(loaded, _set_state, status, "END")
                version.model = loaded
                version.attempts = 0
                status.state = "AVAILABLE"
                model.serving = {**model.serving, number: loaded}
                model.latest = max(model.serving)
                model.startup = False
                logger.info("Successfully loaded servable version {name: %s version: %d}", name, number)
                self._release(model)
            self._changed.notify_all()

    def _load_failed(self, model: _Model, version: _Version, error: Exception, seen: Fingerprint) -> None:
        status = version.status
        status_error = error if isinstance(error, StatusError) else StatusError("INTERNAL", str(error))
        with self._changed:
            version.attempts += 1
            version.failed_with = seen or (("", 0, 0),)
            logger.error(
                "Loading servable: {name: %s version: %d} failed: %s",
                model.config.name,
                status.version,
                status_error,
            )
            retries = self.max_retries if self.retry_at_startup or not model.startup else 0
            if not version.aspired or version.attempts > retries:
                status.state, version.retry_at = "END", None
                status.code, status.message = status_error.code, status_error.message
            else:
                version.retry_at = time.monotonic() + self.retry_seconds
            self._changed.notify_all()

    def _unload(self, model: _Model, version: _Version) -> None:
        if version.model is None:
            return
        number = version.status.version
        if version.status.state == "AVAILABLE":
            version.status.state = "UNLOADING"
        serving = {other: loaded for other, loaded in model.serving.items() if other != number}
        # `latest` moves first: a request that reads between the two assignments finds a model either way.
        model.latest = max(serving, default=None)
        model.serving = serving
        version.model = None  # the last request to finish now closes the session
        logger.info("Unloading servable version {name: %s version: %d}", model.config.name, number)


def _warn_of_missing(model: _Model, chosen: set[int]) -> None:
    """Warns in TF Serving's words, which repeats them at each look; here once, until something has
    changed."""
    config = model.config
    missing = set(config.policy.versions) - chosen
    warning = (config, frozenset(missing), not chosen)
    if warning == model.warned:
        return
    model.warned = warning
    if config.policy.kind == "specific" and not config.policy.versions:
        logger.warning("No specific versions requested for servable %s.", config.name)
        return
    for version in sorted(missing):
        logger.warning(
            "Version %d of servable %s, which was requested to be served as a 'specific' version in the"
            " servable's version policy, was not found in the file system",
            version,
            config.name,
        )
    if not chosen:
        logger.warning(
            "No versions of servable %s found under base path %s. Did you forget to name your leaf directory"
            " as a number (eg. '/1/')?",
            config.name,
            config.base_path,
        )


def _set_state(status: VersionStatus, state: str) -> None:
    status.state = state
