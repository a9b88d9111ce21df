"""Calls of a client, written once for every transport, sync and async: what it asks, and how it goes on with
each reply.

Each call is a generator: it yields `Ask`s, is sent the replies, and returns the result. A client drives it,
by blocking or by awaiting. Nothing here needs TensorFlow or NumPy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfrec_fusion.experiments.assignment import Experiment, arms_text, assign
from tfrec_fusion.export.request import INPUTS, SIGNATURES, RequestError, is_setting
from tfrec_fusion.impressions.contract import Feedback, check_arm, new_request_id, row_ids
from tfrec_fusion.serving.client.answers import (
    Recommendations,
    Scores,
    named_outputs,
    read_recommendations,
)
from tfrec_fusion.serving.client.columns import as_rows, batches, candidate_batches, checked_values, columns
from tfrec_fusion.serving.client.errors import unreadable
from tfrec_fusion.serving.client.explanations import Explanations, read_explanations
from tfrec_fusion.serving.client.signatures import SignatureSpec, read_metadata
from tfrec_fusion.serving.client.values import plain

if TYPE_CHECKING:
    from tfrec_fusion.impressions.log import ImpressionLog


@dataclasses.dataclass(frozen=True)
class Ask:
    """One exchange with the server.

    Attributes:
        kind: `predict`, `metadata`, `status` or `feedback`.
        signature: the signature's name, for predict; empty for `serving_default`.
        inputs: columns by input name, or a bare value for a signature with one input; of feedback, its
            fields.
        instances: rows, instead of `inputs`.
        spec: the signature, where it is known.
        request_id: under which the server logs its answer, where it does.
        arm: of an experiment, that asks.
    """

    kind: str
    signature: str = ""
    inputs: Any = None
    instances: Sequence[Any] | None = None
    spec: SignatureSpec | None = None
    request_id: str = ""
    arm: str = ""


Call = Generator[Ask, Any, Any]
"""A call in steps: yields `Ask`s, is sent each reply, returns the caller's result."""


class Calls:
    """The calls of one client. The model's signatures are asked for once.

    Args:
        batch_size: the most rows that one request carries; longer lists are split.
        signatures: the signatures where they are known beforehand: then they are never asked for.
        typed: whether predict needs the types of the inputs.
        impressions: logs what is answered, where the server does not.
        experiments: whose arms users have, where a call names none.
    """

    def __init__(
        self,
        batch_size: int,
        signatures: Mapping[str, SignatureSpec] | None,
        typed: bool = False,
        impressions: ImpressionLog | None = None,
        experiments: Sequence[Experiment] = (),
    ):
        self._experiments = tuple(experiments)
        self._impressions = impressions
        self._batch_size = batch_size
        self._signatures = dict(signatures or {})
        self._given = signatures is not None
        self._typed = typed

    def predict(self, inputs: Any, instances: Sequence[Any] | None, name: str) -> Call:
        if (inputs is None) == (instances is None):
            raise RequestError(
                "Give either `inputs` (columns) or `instances` (rows), not both and not neither."
            )
        inputs, instances = plain(inputs), plain(instances)
        if instances is not None:
            _check_instances(instances)
        if self._typed:
            yield from self._ask_signatures(name or "serving_default")
        spec = self._signatures.get(name or "serving_default")
        return (yield Ask("predict", name, inputs, instances, spec))

    def recommend(self, name: str, k: int, given: Mapping[str, Any], arm: str = "") -> Call:
        arm = check_arm(arm or self._arm(given.get("user_id")))
        spec = yield from self._signature(name)
        if "item_ids" not in spec.outputs:
            raise RequestError(
                f"A signature that recommends must have an output `item_ids`. Received: {name!r}, whose"
                f" outputs are {', '.join(sorted(spec.outputs))}."
            )
        k = plain(k)
        INPUTS["k"].check(k)
        scalars = {"k": k} if "k" in spec.inputs else {}
        given = _present(given)
        if not given:
            raise RequestError(
                "Give at least one of "
                f"{', '.join(sorted(name for name in spec.inputs if not is_setting(name)))}."
            )
        many, rows = as_rows(spec, checked_values(spec, given, name))
        answers: list[Recommendations] = []
        for part in batches(spec, rows, self._batch_size):
            answers.extend(
                (yield from self._list(name, spec, {**scalars, **part}, k, part.get("user_id"), arm))
            )
        return answers if many else answers[0]

    def rank(self, name: str, given: Mapping[str, Any]) -> Call:
        spec = yield from self._signature(name)
        values = checked_values(spec, _present(given), name)
        scores = Scores()
        for part in candidate_batches(spec, values, self._batch_size):
            scores.add((yield from _outputs(name, spec, part)), bool(values.get("user_id")))
        return scores

    def explain(self, name: str, given: Mapping[str, Any]) -> Call:
        spec = yield from self._signature(name)
        given = _present(given)
        for item in ("item_ids", "texts"):
            value = plain(given.get(item))
            if isinstance(value, (str, bytes, int)):  # one item
                given[item] = [value]
        if not given.get("item_ids") and not given.get("texts"):
            raise RequestError(
                "There is nothing to explain. Give `item_ids`, or `texts` of items in no catalogue."
            )
        many, rows = as_rows(spec, checked_values(spec, given, name))
        answers: list[Explanations] = []
        for part in batches(spec, rows, self._batch_size):
            outputs = yield from _outputs(name, spec, part)
            answers.extend(read_explanations(outputs, part.get("user_id")))
        return answers if many else answers[0]

    def similar(self, name: str, k: int, given: Mapping[str, Any], arm: str = "") -> Call:
        arm = check_arm(arm or self._arm(given.get("user_id")))
        spec = yield from self._signature(name)
        k = plain(k)
        INPUTS["k"].check(k)
        given = _present(given)
        if not given.get("item_id") and not given.get("text"):
            raise RequestError("Like which item? Give `item_id`, or `text` of an item in no catalogue.")
        many, rows = as_rows(spec, checked_values(spec, given, name))
        answers: list[Recommendations] = []
        for part in batches(spec, rows, self._batch_size):
            answers.extend((yield from self._list(name, spec, {"k": k, **part}, k, None, arm)))
        return answers if many else answers[0]

    def _list(
        self,
        name: str,
        spec: SignatureSpec,
        part: dict[str, Any],
        k: int,
        users: Sequence[Any] | None,
        arm: str,
    ) -> Generator[Ask, Any, list[Recommendations]]:
        """One request for lists: each answer gets its id, and is logged where the client has a log."""
        request_id = new_request_id()
        ask = Ask("predict", name, columns(spec, part), spec=spec, request_id=request_id, arm=arm)
        answers = read_recommendations(named_outputs((yield ask), spec), users, k)
        for answer, own_id in zip(answers, row_ids(request_id, len(answers)), strict=True):
            answer.request_id = own_id
        if self._impressions is not None:
            mixed = any(answer.arms for answer in answers)
            self._impressions.shown(
                request_id,
                [[item.item_id for item in answer] for answer in answers],
                users=users,
                scores=[[item.score for item in answer] for answer in answers],
                propensities=None
                if mixed
                else [answer.propensities or [1.0] * len(answer) for answer in answers],
                arm=arm,
                arms=[[";".join(filter(None, (arm, own))) for own in answer.arms] for answer in answers]
                if mixed
                else None,
            )
        return answers

    def _arm(self, user: Any) -> str:
        """The arms of a user, or of several who have the same."""
        if not self._experiments or user is None:
            return ""
        users = plain(user)
        texts = {
            arms_text({name: arm.name for name, arm in assign(self._experiments, one).items()})
            for one in (users if isinstance(users, list) else [users])
        }
        if len(texts) > 1:
            raise RequestError(
                "While an experiment runs, the users of one request must have the same arm. Received:"
                f" {', '.join(map(repr, sorted(texts)))}. Ask for one user at a time, or give `arm`."
            )
        return texts.pop() if texts else ""

    def feedback(self, given: Mapping[str, Any]) -> Call:
        """Sends one event, or writes it where the client has a log; the event, with its id."""
        event = Feedback.of(_present(plain(given)))
        if self._impressions is not None:
            self._impressions.feedback([event])
        else:
            yield Ask("feedback", inputs=dataclasses.asdict(event))
        return event

    def embed(self, name: str, values: Any) -> Call:
        spec = yield from self._signature(name)
        if not isinstance(values, Mapping):
            values = {_text_input(name, spec): values}
        many, rows = as_rows(spec, checked_values(spec, values, name))
        vectors: list[list[float]] = []
        for part in batches(spec, rows, self._batch_size):
            outputs = yield from _outputs(name, spec, part)
            vectors.extend(next(iter(outputs.values())))
        return vectors if many else vectors[0]

    def status(self) -> Call:
        status = yield Ask("status")
        try:
            return status["model_version_status"]
        except (KeyError, TypeError) as error:
            raise unreadable("status", error) from None

    def metadata(self) -> Call:
        return (yield Ask("metadata"))

    def _ask_signatures(self, name: str) -> Generator[Ask, Any, None]:
        # A newer version may have more than the one that was asked before.
        if name not in self._signatures and not self._given:
            metadata = yield Ask("metadata")
            try:
                self._signatures = read_metadata(metadata)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise unreadable("metadata", error) from None

    def _signature(self, name: str) -> Generator[Ask, Any, SignatureSpec]:
        yield from self._ask_signatures(name)
        if name not in self._signatures:
            newer = " Models pushed by an older version lack it; `tfrec run` pushes one that has it."
            raise RequestError(
                f"The model has no signature {name!r}. Its signatures: {', '.join(sorted(self._signatures))}."
                + (newer if name in SIGNATURES else "")
            )
        return self._signatures[name]


def _outputs(name: str, spec: SignatureSpec, part: dict[str, Any]) -> Generator[Ask, Any, dict[str, Any]]:
    return named_outputs((yield Ask("predict", name, columns(spec, part), spec=spec)), spec)


def no_feedback(ask: Ask, by: str) -> None:
    """Raises RequestError where a transport that takes no feedback is given some."""
    if ask.kind == "feedback":
        raise RequestError(
            f"Feedback goes to the embedded server over REST. Received: a client over {by}. Give the client"
            " `impressions=ImpressionLog(...)`, which logs answers and feedback in this process, or connect"
            " to http://…"
        )


def _check_instances(instances: Any) -> None:
    if not isinstance(instances, list) or not instances:
        raise RequestError(f"`instances` must be a list with at least one row. Received: {instances!r}.")
    names = [set(row) if isinstance(row, Mapping) else None for row in instances]
    if any(other != names[0] for other in names):
        raise RequestError(
            "All rows of `instances` must have the same inputs. Received: "
            + " and ".join(sorted({"a bare value" if own is None else str(sorted(own)) for own in names}))
            + "."
        )


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _text_input(signature: str, spec: SignatureSpec) -> str:
    """The input that takes texts."""
    texts = [name for name in spec.inputs if spec.takes_strings(name)]
    name = next((name for name in ("text", "texts") if name in texts), texts[0] if texts else None)
    if name is None:
        raise RequestError(
            f"Signature {signature!r} takes no text. Its inputs: {', '.join(sorted(spec.inputs))}."
        )
    return name
