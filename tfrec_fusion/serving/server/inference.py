"""Requests to a signature, whichever door they came through: predict, classify, regress.

Arrays in, arrays or plain lists out; the REST and gRPC services differ only in how they read and write them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import tensorflow as tf

from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.protocol.tensor_protos import TensorProto
from tfrec_fusion.serving.server.session import (
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    PREDICT_METHOD,
    REGRESS_METHOD,
    LoadedModel,
    Signature,
)

INPUTS, CLASSES, SCORES, OUTPUTS = "inputs", "classes", "scores", "outputs"
"""Names that classify and regress signatures give their tensors."""

_DATA_TYPES = TensorProto.DESCRIPTOR.fields_by_name["dtype"].enum_type

Classifications = list[list[tuple[bytes, float]]]
"""For each example, its (label, score) pairs."""


def predict(
    model: LoadedModel,
    signature: Signature,
    inputs: dict[str, np.ndarray],
    output_filter: Sequence[str] = (),
    inline: bool = False,
    timeout_ms: int | None = None,
) -> dict[str, np.ndarray]:
    """Runs a signature on named tensors, checking names as TF Serving does.

    Raises:
        StatusError: the inputs are not the signature's, an output is unknown or named twice, or the graph
            fails.
    """
    check_method_name(model, signature)
    if inputs.keys() != signature.inputs.keys():
        check_inputs(signature, inputs)
    check_outputs(signature, output_filter)
    return model.predict(signature, inputs, output_filter, inline, timeout_ms)


def check_inputs(signature: Signature, sent: Collection[str]) -> None:
    """Raises INVALID_ARGUMENT unless all of a signature's inputs are sent or have a default, and nothing else
    is."""
    required = signature.inputs

    def joined(names: Iterable[str]) -> str:
        return ",".join(sorted(names))

    if len(sent) > len(required) or (len(sent) < len(required) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(required)} len({{{joined(sent)}}}) !="
            f" len({{{joined(required)}}}). Sent extra: {{{joined(set(sent) - set(required))}}}. Missing but"
            f" required: {{{joined(set(required) - set(sent))}}}."
        )
    for name, feed in zip(required, signature.feeds, strict=True):
        if name not in sent and name not in signature.defaults:
            raise invalid_argument(
                f"Signature input alias: {name}(feed name: {feed}) not found in request and no default value"
                f" provided. Inputs expected to be in the request {{{joined(sent)}}}, or default input alias"
                f" set: {joined(signature.defaults)}"
            )
    used = set(sent) & set(required)
    if len(used) != len(sent):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {joined(used)}, request input:"
            f" {joined(sent)}"
        )


def check_method_name(model: LoadedModel, signature: Signature) -> None:
    """Raises INTERNAL where a model's method names count and a signature has one that predict does not
    know."""
    known = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
    if model.check_method_names and signature.method_name not in known:
        raise StatusError(
            "INTERNAL",
            f"Expected prediction signature method_name to be one of {{{PREDICT_METHOD}, {CLASSIFY_METHOD}, "
            f"{REGRESS_METHOD}}}. Was: {signature.method_name}",
        )


def check_outputs(signature: Signature, output_filter: Sequence[str]) -> None:
    """Raises INVALID_ARGUMENT where a filter names an output that a signature lacks, or one twice."""
    seen: set[str] = set()
    for name in output_filter:
        if name not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{{{','.join(sorted(signature.outputs))}}}."
            )
        if name in seen:
            raise invalid_argument(f"duplicate output tensor alias: {name}")
        seen.add(name)


def find_signature(model: LoadedModel, name: str, kind: str) -> Signature:
    """A classify or regress signature.

    Args:
        model: the loaded model.
        name: the signature's name; empty for `serving_default`.
        kind: `CLASSIFY_METHOD` or `REGRESS_METHOD`.

    Raises:
        StatusError: there is none of that name, or its tensors or (where checked) its method are of another
            kind.
    """
    signature = model.signature(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name or DEFAULT_SIGNATURE}")
    check_method(model, signature, kind)
    return signature


def check_method(model: LoadedModel, signature: Signature, kind: str) -> None:
    """Raises INVALID_ARGUMENT where a model's method names count and a signature has another than `kind`."""
    if model.check_method_names and signature.method_name != kind:
        word = "classification" if kind == CLASSIFY_METHOD else "regression"
        raise invalid_argument(
            f"Expected {word} signature method_name to be {kind}. Was: {signature.method_name}"
        )


def classification_fetches(signature: Signature) -> tuple[str, list[str]]:
    """The graph's input and outputs of a classify signature.

    Raises:
        StatusError: the signature has other inputs or outputs than classify allows.
    """
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {signature.text}")
    names = [name for name in (CLASSES, SCORES) if name in signature.outputs]
    if not names:
        raise invalid_argument(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}".'
            f" Signature was: {signature.text}"
        )
    return signature.feeds[0], [signature.outputs[name] for name in names]


def regression_fetches(signature: Signature) -> tuple[str, list[str]]:
    """The graph's input and output of a regress signature; raises StatusError where they are not
    regress's."""
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {signature.text}")
    if OUTPUTS not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature.text}")
    return signature.feeds[0], [signature.outputs[OUTPUTS]]


def examples_tensor(examples: Sequence[bytes]) -> np.ndarray:
    """Serialised Examples as the one tensor that classify and regress feed."""
    if not examples:
        raise invalid_argument("Input is empty.")
    tensor = np.empty(len(examples), object)
    tensor[:] = examples
    return tensor


def classify(
    model: LoadedModel, signature: Signature, examples: Sequence[bytes], timeout_ms: int | None = None
) -> Classifications:
    """Runs a classify signature on serialised Examples."""
    feed, fetches = classification_fetches(signature)
    outputs = model.run((feed,), [examples_tensor(examples)], tuple(fetches), False, timeout_ms)
    return to_classifications(signature, len(examples), dict(zip(fetches, outputs, strict=True)))


def regress(
    model: LoadedModel, signature: Signature, examples: Sequence[bytes], timeout_ms: int | None = None
) -> list[float]:
    """Runs a regress signature on serialised Examples; one number an example."""
    feed, fetches = regression_fetches(signature)
    outputs = model.run((feed,), [examples_tensor(examples)], tuple(fetches), False, timeout_ms)
    return to_regressions(signature, len(examples), dict(zip(fetches, outputs, strict=True)))


def to_classifications(
    signature: Signature, num_examples: int, tensors: dict[str, np.ndarray]
) -> Classifications:
    """Labels and scores of each example, from tensors by graph name."""
    classes = tensors.get(signature.outputs.get(CLASSES, ""))
    scores = tensors.get(signature.outputs.get(SCORES, ""))
    for name, array, dtype in ((CLASSES, classes, "DT_STRING"), (SCORES, scores, "DT_FLOAT")):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}")
        if _dtype_name(array) != dtype:
            raise invalid_argument(f"Expected {name} Tensor of {dtype}. Got: {_dtype_name(array)}")
        if array.shape[0] != num_examples:
            raise invalid_argument(
                f"Expected {name} output batch size of {num_examples}. Got: {array.shape[0]}"
            )
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs."
            f" {scores.shape[1]}"
        )
    num_classes = next(array.shape[1] for array in (classes, scores) if array is not None)
    labels = classes.tolist() if classes is not None else [[b""] * num_classes] * num_examples
    values = scores.tolist() if scores is not None else [[0.0] * num_classes] * num_examples
    return [list(zip(row, numbers, strict=True)) for row, numbers in zip(labels, values, strict=True)]


def to_regressions(signature: Signature, num_examples: int, tensors: dict[str, np.ndarray]) -> list[float]:
    """One number for each example, from tensors by graph name."""
    output = tensors[signature.outputs[OUTPUTS]]
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape(output)}"
        )
    if output.shape[0] != num_examples:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {num_examples} vs. {output.shape[0]}"
        )
    if output.dtype != np.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_dtype_name(output)}")
    return output.ravel().tolist()


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _dtype_name(array: np.ndarray) -> str:
    if array.dtype.kind in "OSU":
        return "DT_STRING"
    return _DATA_TYPES.values_by_number[tf.dtypes.as_dtype(array.dtype).as_datatype_enum].name
