"""TF Serving's REST API as a function: (method, path, body) → (HTTP status, content type, body).

What it speaks of is the API alone; connections, limits and time-outs are `rest_server`'s.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import time
import weakref
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2

from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.server import inference, json_writer
from tfrec_fusion.serving.server.admission import Gate, check_answer, check_rows
from tfrec_fusion.serving.server.deadline import Deadline
from tfrec_fusion.serving.server.deadline import check as check_deadline
from tfrec_fusion.serving.server.impressions import FEEDBACK, Impressions, Origin
from tfrec_fusion.serving.server.inline_costs import InlineCosts
from tfrec_fusion.serving.server.json_examples import EXAMPLES, decode_examples
from tfrec_fusion.serving.server.json_reader import MAX_DEPTH, parse_object
from tfrec_fusion.serving.server.json_size import holds_more_values, most_values
from tfrec_fusion.serving.server.json_tensors import DtypeMap, decode_predict
from tfrec_fusion.serving.server.json_text import quote
from tfrec_fusion.serving.server.limits import Limits, cut, too_much
from tfrec_fusion.serving.server.monitoring import Metrics
from tfrec_fusion.serving.server.request_log import RequestLog
from tfrec_fusion.serving.server.session import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
    LoadedModel,
    Signature,
)
from tfrec_fusion.serving.server.trials import Trials
from tfrec_fusion.serving.server.versions import ModelManager

JSON = b"application/json"

_PREDICTION = re.compile(
    rb"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?:(classify|regress|predict)", re.I
)
_STATUS = re.compile(
    rb"/v1/models(?:/([^/:]+))?(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?(?:/(metadata))?", re.I
)
_MAX_ROUTES = 4096
_LONG_TARGET = 512
_FEW_VALUES = 10_000
"""Documents of fewer values are parsed without asking for room."""


@dataclasses.dataclass(frozen=True)
class Route:
    """What a path asks for: a model (by version, label or the latest) and one of its methods."""

    name: str
    version: int | None
    label: str | None
    method: str


class RestHandler:
    """Answers REST requests from the models of a manager.

    Args:
        manager: finds the models.
        metrics: counts requests.
        request_log: keeps a sample of them, or None.
        impressions: logs what is shown and takes feedback, or None.
        trials: experiments and exploration, or None.
        limits: see `Limits`.
        timeout_ms: how long a request may take; 0 for no limit.
    """

    def __init__(
        self,
        manager: ModelManager,
        metrics: Metrics,
        request_log: RequestLog | None = None,
        limits: Limits | None = None,
        timeout_ms: int = 0,
        impressions: Impressions | None = None,
        trials: Trials | None = None,
    ):
        self.limits = limits or Limits()
        self.timeout_ms = timeout_ms
        self.manager = manager
        self.metrics = metrics
        self.request_log = request_log
        self.impressions = impressions
        self.trials = trials
        self._routes: dict[tuple[bytes, bytes], Route] = {}
        self._inline = InlineCosts(self.limits)
        self._parsing = Gate(4 * self.limits.max_json_values, "JSON values")
        self._metadata: weakref.WeakKeyDictionary[LoadedModel, bytes] = weakref.WeakKeyDictionary()

    def is_quick(self, method: bytes, target: bytes, body: bytes = b"") -> bool:
        """Whether a request is known to be answered too quickly to be worth a hand-over to another thread."""
        if method != b"POST":
            return True
        route = self._routes.get((method, target))
        return route is not None and self._inline.allow(route.name, body)

    def handle(
        self,
        method: bytes,
        target: bytes,
        body: bytes,
        inline: bool = False,
        deadline: Deadline | None = None,
        origin: Origin | None = None,
    ) -> tuple[int, bytes]:
        """Answers one request.

        Args:
            method: `GET`, `POST`, …
            target: path and query as sent.
            body: the plain body.
            inline: run the model on this thread alone.
            deadline: when the work must end; `timeout_ms` from now where None.
            origin: under which id what is shown is logged; not at all where None.

        Returns:
            HTTP status and JSON body.
        """
        if inline:  # what is quick needs none
            return self._handle(method, target, body, True, origin)
        if deadline is None:
            deadline = Deadline(self.timeout_ms / 1e3 if self.timeout_ms else math.inf)
        with deadline.current():
            return self._handle(method, target, body, False, origin)

    def _handle(
        self, method: bytes, target: bytes, body: bytes, inline: bool, origin: Origin | None
    ) -> tuple[int, bytes]:
        if self.impressions is not None and target == FEEDBACK:
            return self.impressions.take(method, body)
        start, worked = time.perf_counter(), time.thread_time() if inline else 0.0
        route: Route | None = None
        try:
            route = self._route(method, target)
            if method == b"POST":
                check_deadline()
                answer = self._infer(route, body, inline, origin)
            elif route.method == "metadata":
                answer = self._model_metadata(route)
            else:
                answer = self._model_status(route)
            code, status = "OK", 200
        except _Unexplained as error:
            code, status, answer = error.code, error.http_status, b""
        except StatusError as error:
            code, status, answer = error.code, error.http_status, self.error(error.message)
        except RecursionError:  # orjson reads deeper than Python code can follow
            code, status = "INVALID_ARGUMENT", 400
            answer = json_writer.encode_error(f"JSON Parse error: Nesting is limited to {MAX_DEPTH} levels.")
        except Exception as error:  # a fault of ours must answer this request and harm no other
            code, status = "INTERNAL", 500
            answer = self.error(f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - start
        name = "" if route is None else route.name
        known = self.manager.knows(name)
        inferring = method == b"POST"
        if known and inferring and (code == "OK" or inline):
            # What this thread worked counts, and a tenth of what it waited: a busy neighbour must not make a
            # small model look slow, nor may a model that sleeps look quick.
            spent = time.thread_time() - worked + seconds / 10 if inline else seconds
            self._inline.measured(name, body, spent, inline)
        # TF Serving takes the method from the path as it stands, so that what asks for none counts under no
        # name.
        api = route.method if route is not None and inferring else ""
        self.metrics.request(name, api, "REST", code, seconds * 1e6, known)
        return status, answer

    def _route(self, method: bytes, target: bytes) -> Route:
        route = self._routes.get((method, target))
        if route is None:
            route = parse_target(method, target)
            # What nobody serves, and what is long, is not worth remembering: a client can make it up.
            if len(target) <= _LONG_TARGET and self.manager.knows(route.name):
                if len(self._routes) >= _MAX_ROUTES:
                    self._routes.clear()
                self._routes[method, target] = route
        return route

    def error(self, message: str) -> bytes:
        """The body of an error, of at most `max_error_bytes`."""
        return json_writer.encode_error(cut(message, self.limits.max_error_bytes))

    def _infer(self, route: Route, body: bytes, inline: bool, origin: Origin | None) -> bytes:
        limit = self.limits.max_json_values
        if inline or (values := most_values(body)) <= _FEW_VALUES:
            return self._answer(route, body, inline, origin)
        if holds_more_values(body, limit):
            raise too_much("max_json_values", limit, "more", "JSON values", "Send several smaller ones.")
        with self._parsing.hold(values):
            return self._answer(route, body, inline, origin)

    def _answer(self, route: Route, body: bytes, inline: bool, origin: Origin | None) -> bytes:
        if route.method == "predict":
            return self._predict(route, body, inline, origin)
        # Classify and regress check the JSON wholly before they look for the model.
        document = parse_object(body)
        examples_sent = document.get(EXAMPLES)
        if type(examples_sent) is list:
            check_rows(len(examples_sent), self.limits)
        signature_name, examples = decode_examples(document, self.limits.max_body_bytes)
        model = self.manager.get(route.name, route.version, route.label)
        if route.method == "classify":
            signature = inference.find_signature(model, signature_name, CLASSIFY_METHOD)
            start = time.perf_counter()
            results = inference.classify(model, signature, examples)
            self.metrics.runtime(route.name, "Classify", (time.perf_counter() - start) * 1e6)
            return json_writer.encode_classifications(results)
        signature = inference.find_signature(model, signature_name, REGRESS_METHOD)
        start = time.perf_counter()
        values = inference.regress(model, signature, examples)
        self.metrics.runtime(route.name, "Regress", (time.perf_counter() - start) * 1e6)
        return json_writer.encode_regressions(values)

    def _predict(self, route: Route, body: bytes, inline: bool, origin: Origin | None) -> bytes:
        document = parse_object(body)
        answers: list[tuple[LoadedModel, Signature]] = []

        def dtypes_of(name: str) -> DtypeMap:
            model = self.manager.get(route.name, route.version, route.label)
            signature = model.signature(name)
            if signature is None:
                raise invalid_argument(
                    f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
                )
            answers.append((model, signature))
            return signature.inputs

        _, inputs, form = decode_predict(document, dtypes_of)
        model, signature = answers[0]
        start = time.perf_counter()
        run = functools.partial(inference.predict, inline=inline)
        if self.trials is None or origin is None:
            outputs = run(model, signature, inputs)
        else:
            inference.check_inputs(signature, inputs)
            pinned = route.version is not None or route.label is not None
            model, signature, outputs = self.trials.answer(origin, pinned, model, signature, inputs, run)
        self.metrics.runtime(route.name, "Predict", (time.perf_counter() - start) * 1e6)
        if not inline:
            check_answer(json_writer.estimated_bytes(outputs, form), self.limits)
        answer = json_writer.encode_predict(outputs, form)
        log = self.request_log
        if log is not None and log.wants():
            log.write(model.name, model.version, signature.name, inputs, outputs)
        if self.impressions is not None and origin is not None:
            self.impressions.shown(origin, model, signature, inputs, outputs)
        return answer

    def _model_status(self, route: Route) -> bytes:
        # A label is not looked at: TF Serving answers with every version then.
        entries = [
            f'  {{\n   "version": "{status.version}",\n   "state": "{status.state}",\n   "status": {{\n'
            f'    "error_code": "{status.code}",\n    "error_message": {_text(status.message)}\n   }}\n  }}'
            for status in self.manager.status(route.name, route.version)
        ]
        return ('{\n "model_version_status": [\n' + ",\n".join(entries) + "\n ]\n}\n").encode()

    def _model_metadata(self, route: Route) -> bytes:
        model = self.manager.get(route.name, route.version, route.label)
        cached = self._metadata.get(model)
        if cached is None:
            cached = self._metadata[model] = encode_metadata(model)
        return cached


class _Unexplained(StatusError):
    """TF Serving returns from its reading of a path before it has written the error into the body."""


def _text(message: str) -> str:
    return quote(message.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def parse_target(method: bytes, target: bytes) -> Route:
    """What a path asks for.

    Raises:
        StatusError: INVALID_ARGUMENT `Malformed request: METHOD PATH` and the like; without a body where the
            version is too large a number.
    """
    text = f"{method.decode('latin-1')} {target.decode('utf-8', 'surrogateescape')}"
    malformed = invalid_argument(f"Malformed request: {text}")
    if method == b"POST":
        match = _PREDICTION.fullmatch(target)
    elif method == b"GET":
        match = _STATUS.fullmatch(target)
    else:
        raise malformed
    if match is None:
        raise malformed
    name, digits, label, action = match.groups()
    version = None
    if digits:
        version = int(digits) if len(digits) <= 32 else 2**63
        if version >= 2**63:
            message = f"Failed to convert version: {digits.decode()} to numeric."
            raise _Unexplained("INVALID_ARGUMENT", message)
    if method == b"POST" and action.decode() not in ("classify", "regress", "predict"):
        raise malformed  # the path matches in any case, the method's name is then compared in lower case
    if not name:
        raise invalid_argument("Missing model name in request.")
    return Route(
        _decode(name),
        version,
        None if label is None else _decode(label),
        (action or b"").decode(),
    )


def _decode(part: bytes) -> str:
    return unquote_to_bytes(part).decode("utf-8", "surrogateescape")


def encode_metadata(model: LoadedModel) -> bytes:
    """A model's metadata as TF Serving prints it."""
    definitions = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in model.meta_graph.signature_def.items():
        definitions.signature_def[name].CopyFrom(definition)
    spec = model_pb2.ModelSpec(name=model.name)
    spec.version.value = model.version
    return (
        f'{{\n"model_spec":{_proto_json(spec)}\n,\n"metadata": {{"signature_def":'
        f" {_proto_json(definitions)}\n}}\n}}\n"
    ).encode()


def _proto_json(message: Any) -> str:
    options: dict[str, Any] = {"preserving_proto_field_name": True, "indent": 1, "ensure_ascii": False}
    try:
        return json_format.MessageToJson(message, always_print_fields_with_no_presence=True, **options)
    except TypeError:  # protobuf before 5.26 spells it so
        return json_format.MessageToJson(message, including_default_value_fields=True, **options)
