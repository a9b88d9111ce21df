"""Runs a SavedModel as TF Serving does: through a session, whose feeds are not held to the declared shapes.

`loaded.signatures[…]` checks a signature's declared shapes and costs some 300 µs a call. A session's prepared
callable does neither, but is private to TensorFlow: `_prepare` below is the one place that knows it, with
`Session.run` as the way out where a TensorFlow release takes it away.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

try:
    from tensorflow.core.protobuf import config_pb2  # for CallableOptions, which has no public name
except ImportError:
    config_pb2 = None

from tfrec_fusion.serving.protocol.status import StatusError, code_of

logger = logging.getLogger(__name__)

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

RunFn = Callable[..., Sequence[Any]]

_MAX_RUNS = 64
"""Prepared callables that a model keeps beside those of whole signatures at its own time limit: requests
choose outputs and time limits, and must neither fill the memory nor push out what everybody needs."""

SLOW_TO_PREPARE = 1.0
"""Seconds. What takes longer (`explain`: ten of a processor) is prepared once more for all other time limits
together, through `Session.run`, which costs a run some 30 µs, and not once for each."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """One signature of a loaded model, ready to run.

    Attributes:
        name: its key.
        method_name: `tensorflow/serving/predict` and the like.
        inputs: TensorFlow's type name by input name, sorted by name.
        feeds: graph names of the inputs, in the same order.
        outputs: graph name by output name, sorted by name.
        output_names: the outputs' names.
        fetches: graph names of the outputs, in the same order.
        defaults: TensorProtos by input name, for inputs that a request may leave out.
        text: the definition as a text proto, for messages.
    """

    name: str
    method_name: str
    inputs: dict[str, str]
    feeds: tuple[str, ...]
    outputs: dict[str, str]
    output_names: tuple[str, ...]
    fetches: tuple[str, ...]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    text: str = dataclasses.field(default="", repr=False)


class GraphRunner:
    """A session and its prepared callables, one for each pair of feeds and fetches.

    Args:
        session: holds the loaded graph.
        timeout_ms: how long a run may take; 0 for no limit.
    """

    def __init__(self, session: tf.compat.v1.Session, timeout_ms: int):
        self.session = session
        self.timeout_ms = timeout_ms
        self._runs: dict[tuple[tuple[str, ...], tuple[str, ...], bool, int], RunFn] = {}
        self._chosen: dict[tuple[tuple[str, ...], tuple[str, ...], bool, int], RunFn] = {}
        self._slow: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
        self._lock = threading.Lock()
        self.signatures: frozenset[tuple[tuple[str, ...], tuple[str, ...]]] = frozenset()

    def __call__(
        self,
        feeds: tuple[str, ...],
        arrays: Sequence[np.ndarray],
        fetches: tuple[str, ...],
        inline: bool = False,
        timeout_ms: int | None = None,
    ) -> list[np.ndarray]:
        """Runs the graph from `feeds` to `fetches`, both names of tensors.

        Args:
            feeds: names of the tensors to feed.
            arrays: a value for each.
            fetches: names of the tensors to return.
            inline: run on the calling thread alone, which spares a small model two hand-overs (7 µs, not 40),
                and costs a large one its parallelism and its time limit.
            timeout_ms: a time limit of its own, rounded up by a quarter at most; a callable is prepared for
                each, but of what is `SLOW_TO_PREPARE`.

        Raises:
            StatusError: what TensorFlow says, under its own code.
        """
        limit = self.timeout_ms if timeout_ms is None else self._rounded(timeout_ms)
        key = (feeds, fetches, inline, limit)
        run = self._runs.get(key) or self._chosen.get(key)
        if run is None:
            run = self._prepared(key)
        try:
            return [value if isinstance(value, np.ndarray) else _array(value) for value in run(*arrays)]
        except tf.errors.OpError as error:
            raise StatusError(code_of(error), str(error.message)) from None
        except (ValueError, TypeError) as error:  # from the conversion of a feed
            raise StatusError("INVALID_ARGUMENT", str(error)) from None

    def _prepared(self, key: tuple[tuple[str, ...], tuple[str, ...], bool, int]) -> RunFn:
        feeds, fetches, inline, limit = key
        if (feeds, fetches) in self._slow:
            run = _public_runner(self.session, feeds, fetches, limit)
        else:
            start = time.monotonic()
            run = _prepare(self.session, feeds, fetches, limit, inline)
            if time.monotonic() - start > SLOW_TO_PREPARE:
                self._slow.add((feeds, fetches))
        if limit == self.timeout_ms and (feeds, fetches) in self.signatures:
            self._runs[key] = run
            return run
        with self._lock:
            while len(self._chosen) >= _MAX_RUNS:
                del self._chosen[next(iter(self._chosen))]
            self._chosen[key] = run
        return run

    def _rounded(self, timeout_ms: int) -> int:
        """The time limit of the callable that serves a time limit: the model's own where it is at most a
        tenth longer."""
        if self.timeout_ms and 0.9 * self.timeout_ms <= timeout_ms <= self.timeout_ms:
            return self.timeout_ms
        step = max(1, 1 << max(timeout_ms.bit_length() - 3, 0))
        return -(-timeout_ms // step) * step


class LoadedModel:
    """A SavedModel in memory.

    A request keeps the model alive by holding a reference; when the manager and every request have let go,
    the session closes. That costs a request nothing, where a count under a lock would.

    Args:
        path: the version's folder.
        name: the model's name, for answers.
        version: the version's number, for answers.
        timeout_ms: how long a run may take; 0 for no limit.
        tags: which graph of the SavedModel to load.
        check_method_names: whether a signature may be asked only for what its method name says. TF Serving's
            server leaves this off, since TF2 gives every signature the name of predict.

    Attributes:
        signatures: `Signature` by name.
        run: the `GraphRunner`, or what batching puts in its place.

    Raises:
        StatusError: the model cannot be loaded.
    """

    def __init__(
        self,
        path: str,
        name: str,
        version: int,
        timeout_ms: int = 0,
        tags: Sequence[str] = ("serve",),
        check_method_names: bool = False,
    ):
        self.path = path
        self.check_method_names = check_method_names
        self.name = name
        self.version = version
        try:
            session, self.meta_graph = _load(path, tags)
        except StatusError:
            raise
        except Exception as error:
            raise _load_error(error, path, tags) from error
        self.signatures = {
            key: _signature(key, definition)
            for key, definition in self.meta_graph.signature_def.items()
            if not key.startswith("__saved_model_")
        }
        runner = GraphRunner(session, timeout_ms)
        runner.signatures = frozenset(
            (signature.feeds, signature.fetches) for signature in self.signatures.values()
        )
        self.run: RunFn = runner
        weakref.finalize(self, session.close)

    def signature(self, name: str) -> Signature | None:
        """The signature of that name; an empty name is `serving_default`. None where there is none."""
        return self.signatures.get(name or DEFAULT_SIGNATURE)

    def predict(
        self,
        signature: Signature,
        inputs: dict[str, np.ndarray],
        output_names: Sequence[str] = (),
        inline: bool = False,
        timeout_ms: int | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature: one of `signatures`.
            inputs: an array for each of the signature's inputs; strings as object arrays of `bytes`.
            output_names: which outputs to fetch; all where empty.
            inline: see `GraphRunner`.
            timeout_ms: see `GraphRunner`.

        Returns:
            Arrays by output name.

        Raises:
            StatusError: what TensorFlow says, under its own code.
        """
        if output_names:
            output_names = [name for name in signature.output_names if name in output_names]
            fetches = tuple([signature.outputs[name] for name in output_names])
        else:
            output_names, fetches = signature.output_names, signature.fetches
        arrays = [inputs[name] for name in signature.inputs]
        fetched = self.run(signature.feeds, arrays, fetches, inline, timeout_ms)
        return dict(zip(output_names, fetched, strict=True))


def _array(value: Any) -> np.ndarray:
    if isinstance(value, bytes):  # a scalar string comes bare; np.array would strip its trailing NULs
        array = np.empty((), object)
        array[()] = value
        return array
    return np.asarray(value)


def _load(path: str, tags: Sequence[str]) -> tuple[tf.compat.v1.Session, Any]:
    if not any(
        tf.io.gfile.exists(os.path.join(path, name)) for name in ("saved_model.pb", "saved_model.pbtxt")
    ):
        raise StatusError(
            "NOT_FOUND", f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}"
        )
    _register_text_operations()
    return _load_once(path, tags)


def _load_error(error: Exception, path: str, tags: Sequence[str]) -> StatusError:
    """What TF Serving's loader says where Python's, which raises plain exceptions of its own, does not say
    it."""
    message = str(getattr(error, "message", error))
    if isinstance(error, OSError) and message.startswith("Cannot parse file"):
        binary = os.path.join(path, "saved_model.pb")
        if tf.io.gfile.exists(binary):
            return StatusError("DATA_LOSS", f"Can't parse {binary} as binary proto")
        return StatusError(
            "DATA_LOSS", f"Can't parse {os.path.join(path, 'saved_model.pbtxt')} as text proto"
        )
    if isinstance(error, RuntimeError) and message.startswith("MetaGraphDef associated with tags"):
        return StatusError(
            "NOT_FOUND",
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect"
            " available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
        )
    return StatusError(code_of(error), message)


@functools.cache
def _register_text_operations() -> None:
    """TF Serving links TF Text's operations; here they come with its Python package, where that is installed.

    They are registered before any model is loaded: an operation inside a branch or a loop is not looked up
    when its model is loaded, but when it first runs.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("tensorflow_text")


def _load_once(path: str, tags: Sequence[str]) -> tuple[tf.compat.v1.Session, Any]:
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    try:
        with graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(session, list(tags), path)
        graph.finalize()
    except BaseException:
        session.close()
        raise
    return session, meta_graph


def _prepare(
    session: tf.compat.v1.Session,
    feeds: tuple[str, ...],
    fetches: tuple[str, ...],
    timeout_ms: int,
    inline: bool,
) -> RunFn:
    """A function from arrays, in the order of `feeds`, to a list in the order of `fetches`."""
    make = getattr(session, "_make_callable_from_options", None)
    if make is None or config_pb2 is None:
        return _public_runner(session, feeds, fetches, timeout_ms)
    options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
    options.run_options.timeout_in_ms = timeout_ms
    options.run_options.inter_op_thread_pool = -1 if inline else 0
    return make(options)


def _public_runner(
    session: tf.compat.v1.Session, feeds: tuple[str, ...], fetches: tuple[str, ...], timeout_ms: int
) -> RunFn:
    """The same through `Session.run`, some ten times slower and public."""
    options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms)

    def run(*arrays: np.ndarray) -> list[Any]:
        return session.run(list(fetches), dict(zip(feeds, arrays, strict=True)), options=options)

    return run


def _signature(key: str, definition: Any) -> Signature:
    inputs, outputs = sorted(definition.inputs), sorted(definition.outputs)
    return Signature(
        name=key,
        method_name=definition.method_name,
        inputs={name: type_string(definition.inputs[name].dtype) for name in inputs},
        feeds=tuple([definition.inputs[name].name for name in inputs]),
        outputs={name: definition.outputs[name].name for name in outputs},
        output_names=tuple(outputs),
        fetches=tuple([definition.outputs[name].name for name in outputs]),
        defaults=dict(definition.defaults),
        text=str(definition),
    )


_TYPE_STRINGS = {"float32": "float", "float64": "double", "float16": "half"}


@functools.cache
def type_string(data_type: int) -> str:
    """TensorFlow's C++ name of a DataType: `float`, `double`, `half`, `int64`, …"""
    name = tf.dtypes.as_dtype(data_type).name
    return _TYPE_STRINGS.get(name, name)
