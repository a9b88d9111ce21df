"""Impressions of the embedded server: what is logged of what is shown, and feedback, `POST /v1/feedback`.

Off unless asked for; a server without it answers that path, and everything else, as TF Serving does.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tfrec_fusion.impressions.contract import (
    ARM_HEADER,
    FEEDBACK_PATH,
    REQUEST_HEADER,
    Feedback,
    FeedbackError,
    is_arm,
    is_request_id,
    new_request_id,
)
from tfrec_fusion.impressions.log import ImpressionLog

if TYPE_CHECKING:
    from tfrec_fusion.serving.server.session import LoadedModel, Signature

__all__ = ["ARMS", "FEEDBACK", "MAX_EVENTS", "SIGNATURES", "Impressions", "Origin", "origin_of"]

FEEDBACK = FEEDBACK_PATH.encode()
ARMS = "arms"
"""Output of an answer that is interleaved (`interleaved.Interleaver`)."""

SIGNATURES = ("recommend", "similar")
"""Signatures whose answers are lists that somebody sees."""

MAX_EVENTS = 1000
"""Of one request."""


@dataclasses.dataclass
class Origin:
    """Under which id an answer is logged, and the arm of an experiment that asked for it.

    Attributes:
        request_id: the client's, or a new one.
        arm: as the client sent it, or with what `Trials` assigned.
        assigned: whether the server assigned one.
    """

    request_id: str
    arm: str = ""
    assigned: bool = False

    def header(self) -> bytes:
        """The headers that tell the client the id, and the arm where the server assigned one."""
        arm = f"{ARM_HEADER}: {self.arm}\r\n" if self.assigned else ""
        return f"{REQUEST_HEADER}: {self.request_id}\r\n{arm}".encode()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The id for gRPC, sent before the answer is there."""
        return ((REQUEST_HEADER.lower(), self.request_id),)

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """The arm for gRPC, where the server assigned one."""
        return ((ARM_HEADER.lower(), self.arm),) if self.assigned else ()


def origin_of(header: Callable[[bytes], bytes | None]) -> Origin:
    """The client's id, or a new one where it sent none that can be taken; the arm likewise.

    Args:
        header: the value of a header by its name in lower case, None or empty where there is none.
    """
    sent, arm = (
        (header(name.lower().encode()) or b"").decode("latin-1").strip()
        for name in (REQUEST_HEADER, ARM_HEADER)
    )
    return Origin(sent if is_request_id(sent) else new_request_id(), arm if is_arm(arm) else "")


class Impressions:
    """Logs lists that were shown, and feedback.

    Args:
        log: where to.
    """

    def __init__(self, log: ImpressionLog):
        self.log = log

    def shown(
        self,
        origin: Origin,
        model: LoadedModel,
        signature: Signature,
        inputs: dict[str, Any],
        outputs: dict[str, Any],
    ) -> None:
        """Logs an answer, where it is a list of items."""
        items, arms = outputs.get("item_ids"), outputs.get(ARMS)
        if signature.name not in SIGNATURES or items is None or items.ndim != 2:
            return
        self.log.shown(
            origin.request_id,
            items,
            users=inputs.get("user_id"),
            scores=outputs.get("scores"),
            propensities=outputs.get("propensities"),
            model=model.name,
            version=model.version if arms is None else 0,
            arm=origin.arm,
            arms=None if arms is None else [_with(origin.arm, row) for row in arms.tolist()],
        )

    def take(self, method: bytes, body: bytes) -> tuple[int, bytes]:
        """Answers a request to `FEEDBACK`: HTTP status and JSON.

        Args:
            method: of HTTP; POST is answered.
            body: one event as an object, or `{"events": [...]}`; see `Feedback.of`. All of them or none.
        """
        if method != b"POST":
            return 405, _json({"error": f"Feedback is sent by POST. Received: {method.decode('latin-1')}."})
        try:
            document = json.loads(body)
            given = document["events"] if isinstance(document, dict) and "events" in document else [document]
            if not isinstance(given, list) or not 0 < len(given) <= MAX_EVENTS:
                raise FeedbackError(f"`events` must be a list of 1 to {MAX_EVENTS} events.")
            events = [Feedback.of(one) for one in given]
        except FeedbackError as error:
            return 400, _json({"error": str(error)})
        except (ValueError, RecursionError) as error:
            return 400, _json({"error": f"Feedback must be JSON. Received: {str(error)[:200]}."})
        try:
            self.log.feedback(events)
        except OSError as error:
            return 503, _json({"error": f"Feedback could not be written: {error.strerror}. Send it again."})
        return 200, _json({"accepted": len(events)})


def _with(arm: str, interleaved: list[bytes]) -> list[str]:
    """The arms of a list's items: those of other experiments, and which one put each there."""
    return [";".join(filter(None, (arm, own.decode()))) for own in interleaved]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
