"""TF Serving's inference requests as functions of a loaded model: PredictRequest in, PredictResponse out.

Used by the gRPC service and by warm-up, which replays such requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from tfrec_fusion.serving.protocol.status import StatusError, failed_precondition, invalid_argument
from tfrec_fusion.serving.protocol.tensor_protos import MAX_ELEMENTS, to_array, to_proto
from tfrec_fusion.serving.server import inference
from tfrec_fusion.serving.server.admission import check_elements, check_rows, check_texts, claimed_elements
from tfrec_fusion.serving.server.json_examples import check_context
from tfrec_fusion.serving.server.limits import Limits
from tfrec_fusion.serving.server.request_log import RequestLog
from tfrec_fusion.serving.server.session import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    REGRESS_METHOD,
    LoadedModel,
    Signature,
    type_string,
)

SIGNATURE_DEF = "signature_def"
_STRING = 7  # DT_STRING

Ran = Callable[[float], None]
Shown = Callable[[LoadedModel, Signature, dict[str, Any], dict[str, Any]], None]
Trial = Callable[..., tuple[LoadedModel, Signature, dict[str, Any]]]
"""Is told how many seconds the graph of a request ran."""


def _unheard(seconds: float) -> None:
    pass


def _fill_spec(spec: model_pb2.ModelSpec, model: LoadedModel, signature_name: str | None) -> None:
    spec.name = model.name
    spec.version.value = model.version
    if signature_name is not None:
        spec.signature_name = signature_name or DEFAULT_SIGNATURE


def predict(
    model: LoadedModel,
    request: predict_pb2.PredictRequest,
    as_content: bool = False,
    timeout_ms: int | None = None,
    ran: Ran = _unheard,
    log: RequestLog | None = None,
    limits: Limits | None = None,
    shown: Shown | None = None,
    trial: Trial | None = None,
) -> predict_pb2.PredictResponse:
    """Answers a PredictRequest; raises StatusError. `shown` hears of model, signature, inputs and outputs;
    `trial` says who answers, and how."""
    name = request.model_spec.signature_name
    signature = model.signature(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name or DEFAULT_SIGNATURE}" not found.')
    inference.check_method_name(model, signature)
    inference.check_inputs(signature, request.inputs)
    protos = {
        key: request.inputs[key] if key in request.inputs else signature.defaults[key]
        for key in signature.inputs
    }
    if limits is not None:
        _check_size(protos.values(), limits)
    most = limits.max_elements if limits is not None else MAX_ELEMENTS
    inputs = {key: to_array(key, proto, most) for key, proto in protos.items()}
    output_filter = list(request.output_filter)
    inference.check_outputs(signature, output_filter)
    _check_types(signature, {key: type_string(proto.dtype) for key, proto in protos.items()})
    start = time.perf_counter()
    if trial is None:
        outputs = model.predict(signature, inputs, output_filter, timeout_ms=timeout_ms)
    else:
        model, signature, outputs = trial(
            model,
            signature,
            inputs,
            lambda one, own, given: one.predict(own, given, output_filter, timeout_ms=timeout_ms),
            output_filter,
        )
    ran(time.perf_counter() - start)
    if log is not None and log.wants():
        log.write(model.name, model.version, signature.name, inputs, outputs)
    if shown is not None:
        shown(model, signature, inputs, outputs)
    response = predict_pb2.PredictResponse()
    _fill_spec(response.model_spec, model, name)
    for key, array in outputs.items():
        response.outputs[key].CopyFrom(to_proto(array, as_content))
    return response


def _check_size(protos: Iterable[Any], limits: Limits) -> None:
    """Raises INVALID_ARGUMENT for tensors that claim more than a request may have, before any of it is
    made."""
    elements = texts = 0
    for proto in protos:
        shape = [max(dim.size, 0) for dim in proto.tensor_shape.dim]
        claimed = claimed_elements(shape)
        brought = proto.ByteSize()
        if claimed > limits.max_elements and claimed > brought:
            continue  # what nothing stands behind is no tensor; `to_array` says so
        if shape and (proto.dtype == _STRING or claimed > brought):
            check_rows(shape[0], limits)
        elements += claimed
        if proto.dtype == _STRING:
            texts += claimed
    check_elements(elements, limits)
    check_texts(texts, limits)


def _check_types(signature: Signature, types: dict[str, str]) -> None:
    """Raises INVALID_ARGUMENT for an input of another type than the graph's, counted as a session counts its
    feeds."""
    if types == signature.inputs:
        return
    feeds = sorted(signature.feeds)
    wrong = [
        (feeds.index(feed), expected, types[key])
        for (key, expected), feed in zip(signature.inputs.items(), signature.feeds, strict=True)
        if types[key] != expected
    ]
    position, expected, given = min(wrong)
    raise invalid_argument(f"Expects arg[{position}] to be {expected} but {given} is provided")


def serialized_examples(source: input_pb2.Input, limits: Limits | None = None) -> list[bytes]:
    """The Examples of a request, serialised, the context merged into each."""
    kind = source.WhichOneof("kind")
    if kind is not None and limits is not None:
        rows = len(getattr(source, kind).examples)
        check_rows(rows, limits)
        if kind == "example_list_with_context":
            context_bytes = source.example_list_with_context.context.SerializeToString()
            check_context(context_bytes, rows, limits.max_body_bytes)
    if kind == "example_list":
        return [example.SerializeToString() for example in source.example_list.examples]
    if kind == "example_list_with_context":
        context = source.example_list_with_context.context.SerializeToString()
        return [
            context + example.SerializeToString() for example in source.example_list_with_context.examples
        ]
    return []


def classify(
    model: LoadedModel,
    request: classification_pb2.ClassificationRequest,
    timeout_ms: int | None = None,
    ran: Ran = _unheard,
    limits: Limits | None = None,
) -> classification_pb2.ClassificationResponse:
    """Answers a ClassificationRequest; raises StatusError."""
    name = request.model_spec.signature_name
    signature = inference.find_signature(model, name, CLASSIFY_METHOD)
    examples, start = serialized_examples(request.input, limits), time.perf_counter()
    rows = inference.classify(model, signature, examples, timeout_ms)
    ran(time.perf_counter() - start)
    response = classification_pb2.ClassificationResponse()
    _fill_spec(response.model_spec, model, name)
    _fill_classes(response.result, rows)
    return response


def regress(
    model: LoadedModel,
    request: regression_pb2.RegressionRequest,
    timeout_ms: int | None = None,
    ran: Ran = _unheard,
    limits: Limits | None = None,
) -> regression_pb2.RegressionResponse:
    """Answers a RegressionRequest; raises StatusError."""
    name = request.model_spec.signature_name
    signature = inference.find_signature(model, name, REGRESS_METHOD)
    examples, start = serialized_examples(request.input, limits), time.perf_counter()
    values = inference.regress(model, signature, examples, timeout_ms)
    ran(time.perf_counter() - start)
    response = regression_pb2.RegressionResponse()
    _fill_spec(response.model_spec, model, name)
    _fill_values(response.result, values)
    return response


def _fill_classes(result: classification_pb2.ClassificationResult, rows: inference.Classifications) -> None:
    for row in rows:
        classes = result.classifications.add().classes
        for label, score in row:
            classes.add(label=label.decode("utf-8", "replace"), score=score)


def _fill_values(result: regression_pb2.RegressionResult, values: Sequence[float]) -> None:
    result.SetInParent()
    for value in values:
        result.regressions.add(value=value)


def multi_inference(
    model: LoadedModel,
    request: inference_pb2.MultiInferenceRequest,
    timeout_ms: int | None = None,
    counted: Callable[[int], None] = lambda number: None,
    limits: Limits | None = None,
) -> inference_pb2.MultiInferenceResponse:
    """Answers a MultiInferenceRequest with one run of the graph, whose Examples are counted; raises
    StatusError."""
    tasks, feeds, fetches = [], set(), set()
    seen: set[str] = set()
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        signature = model.signature(name)
        if signature is None:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name == CLASSIFY_METHOD:
            inference.check_method(model, signature, CLASSIFY_METHOD)
            feed, outputs = inference.classification_fetches(signature)
        elif task.method_name == REGRESS_METHOD:
            inference.check_method(model, signature, REGRESS_METHOD)
            feed, outputs = inference.regression_fetches(signature)
        else:
            raise StatusError("UNIMPLEMENTED", f"Unsupported signature method_name: {task.method_name}")
        feeds.add(feed)
        if len(feeds) > 1:
            raise invalid_argument("Input tensor must be the same for all Signatures.")
        fetches.update(outputs)
        tasks.append((task, signature))
    examples = serialized_examples(request.input, limits)
    names = tuple(sorted(fetches))
    arrays = model.run(tuple(feeds), [inference.examples_tensor(examples)], names, False, timeout_ms)
    counted(len(examples))
    return _multi_response(model, tasks, len(examples), dict(zip(names, arrays, strict=True)))


def _multi_response(
    model: LoadedModel, tasks: Sequence[tuple[Any, Any]], count: int, tensors: dict[str, np.ndarray]
) -> inference_pb2.MultiInferenceResponse:
    response = inference_pb2.MultiInferenceResponse()
    for task, signature in tasks:
        result = response.results.add()
        _fill_spec(result.model_spec, model, task.model_spec.signature_name)
        if task.method_name == CLASSIFY_METHOD:
            _fill_classes(
                result.classification_result, inference.to_classifications(signature, count, tensors)
            )
        else:
            _fill_values(result.regression_result, inference.to_regressions(signature, count, tensors))
    return response


def check_metadata_request(request: get_model_metadata_pb2.GetModelMetadataRequest) -> None:
    """Raises StatusError unless the request asks for what there is: `signature_def`."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {field} is not supported")


def metadata(model: LoadedModel) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """A model's signatures."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    _fill_spec(response.model_spec, model, None)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in model.meta_graph.signature_def.items():
        definitions.signature_def[name].CopyFrom(definition)
    response.metadata[SIGNATURE_DEF].Pack(definitions)
    return response
