"""Clients of a served model: `Client` and `AsyncClient`, the same methods over any transport.

```python
with Client.connect("http://127.0.0.1:8501", "movies") as client:
    client.recommend(user_id="42", k=10, exclude=["tt0133093"])
    client.recommend(text="slow science fiction about memory")
```

`connect` takes the addresses of REST, gRPC and Vertex AI; `Client(transport)` takes any transport. What goes
wrong is in `tfrec_fusion.serving.client.errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tfrec_fusion.experiments.assignment import Experiment
from tfrec_fusion.export.request import INPUTS, RequestError
from tfrec_fusion.serving.client.addresses import open_transport
from tfrec_fusion.serving.client.calls import Ask, Call, Calls
from tfrec_fusion.serving.client.retries import RetryPolicy
from tfrec_fusion.serving.client.signatures import SignatureSpec, read_metadata
from tfrec_fusion.serving.client.transport import Transport

if TYPE_CHECKING:
    from tfrec_fusion.impressions.log import ImpressionLog

AnyClient = TypeVar("AnyClient", bound="ServingMethods")


class ServingMethods:
    """The methods that both clients have. In the async client each returns an awaitable of the same result.

    Args:
        transport: the way to the model.
        timeout: seconds that a request may take, retries included.
        retry: how often to try again; see `RetryPolicy`.
        batch_size: the most rows that one request carries; longer lists are split. The transport's where
            None.
        signatures: the model's signatures where they are known beforehand, or its metadata; else they are
            asked for once.
        impressions: logs the lists that are answered, and feedback, in this process. For stock TF Serving and
            Vertex AI, which log none; the embedded server does it itself.
        experiments: whose arms users have: each call of `recommend` and `similar` that names no `arm` sends
            its user's. The embedded server can do this itself (`--experiments_file`).
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        batch_size: int | None = None,
        signatures: Mapping[str, SignatureSpec] | Mapping[str, Any] | None = None,
        impressions: ImpressionLog | None = None,
        experiments: Sequence[Experiment] = (),
    ):
        if not isinstance(transport, Transport):
            raise RequestError(
                f"`transport` must be a Transport. Received: {transport!r}. `connect` takes an address."
            )
        size = transport.batch_size if batch_size is None else batch_size
        if size < 1:
            raise RequestError(f"`batch_size` must be at least 1. Received: {size}.")
        if not timeout > 0:
            raise RequestError(f"`timeout` must be above 0 seconds. Received: {timeout}.")
        if signatures is not None and "metadata" in signatures:
            signatures = read_metadata(signatures)
        self.transport = transport
        self.timeout = timeout
        self.retry = retry or RetryPolicy()
        self._calls = Calls(size, signatures, transport.typed, impressions, experiments)

    @classmethod
    def connect(
        cls: type[AnyClient],
        address: str,
        model_name: str = "default",
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        batch_size: int | None = None,
        signatures: Mapping[str, SignatureSpec] | Mapping[str, Any] | None = None,
        impressions: ImpressionLog | None = None,
        experiments: Sequence[Experiment] = (),
        **options: Any,
    ) -> AnyClient:
        """A client of the model at an address. Nothing is sent yet.

        Args:
            address: `http://host:port` or `https://…` for REST, `grpc://host:port` or `grpcs://…` for gRPC,
                `projects/PROJECT/locations/REGION/endpoints/ID` for a Vertex AI endpoint.
            model_name: the model's name on the server.
            timeout, retry, batch_size, signatures, impressions, experiments: as of the class.
            **options: further arguments of the transport: `version` or `label`, `ssl_context` (REST),
                `credentials` (gRPC), `url` and `token` (Vertex AI).
        """
        return cls(
            open_transport(address, model_name, **options),
            timeout=timeout,
            retry=retry,
            batch_size=batch_size,
            signatures=signatures,
            impressions=impressions,
            experiments=experiments,
        )

    def _run(self, call: Call) -> Any:
        """Drives a call to its end; the one thing in which the clients differ."""
        raise NotImplementedError

    def predict(
        self, inputs: Any = None, *, instances: Sequence[Any] | None = None, signature_name: str = ""
    ) -> Any:
        """Runs any signature with values as they are.

        Args:
            inputs: columns: a dict of nested lists by input name, or a bare value where there is one input.
            instances: rows, instead of `inputs`.
            signature_name: empty for `serving_default`.

        Returns:
            For `inputs`, the outputs (a dict by name, or the bare value of the only one); for `instances`,
            one entry a row.

        Raises:
            ServingError: with the server's message.
        """
        return self._run(self._calls.predict(inputs, instances, signature_name))

    def recommend(
        self,
        user_id: Any = None,
        *,
        history: Iterable[Any] | None = None,
        text: str | Sequence[str] | None = None,
        k: int = INPUTS["k"].default,
        exclude: Iterable[Any] | None = None,
        signature_name: str = "recommend",
        arm: str = "",
        **inputs: Any,
    ) -> Any:
        """Asks for the best items for a user, a history, a free text, or any mixture of these.

        Args:
            user_id: one id, or a list of them for many rows. Ids may be strings, integers, or arrays and
                scalars of NumPy, here and wherever ids are given.
            history: ids of items, latest last; for many rows, a list of such lists.
            text: what is asked for, in words; for many rows, a list.
            k: how many items; cut off here where the signature has no such input.
            exclude: ids of items to leave out; for many rows, a list of lists.
            signature_name: the signature that recommends.
            arm: of an experiment, logged with the answer.
            **inputs: further inputs of the signature by name: those of `export.request.INPUTS`, and whatever
                context the model was trained with, by the column's own name: `**{"Device Type": "phone"}`.

        Returns:
            `Recommendations`: a list of `Recommended`, best first; for many rows, a list of such lists.
            Padding (an empty id) is left out, so a list may be shorter than `k`. Its `request_id` is what
            `feedback` asks for.

        Raises:
            ServingError: with the server's message.
            RequestError: the signature has no such input, a value is out of range, or the number of rows is
                open.
        """
        given = {"user_id": user_id, "history": history, "text": text, "exclude": exclude, **inputs}
        return self._run(self._calls.recommend(signature_name, k, given, arm))

    def rank(
        self,
        user_id: Any = None,
        item_ids: Iterable[Any] | None = None,
        *,
        signature_name: str = "rank",
        **inputs: Any,
    ) -> Any:
        """Scores candidates for one user.

        Args:
            user_id: the user.
            item_ids: the candidates' ids, where they are known items.
            signature_name: the signature that ranks.
            **inputs: further inputs by name: the candidates' raw text (a list as long as the candidates), the
                user's history, context.

        Returns:
            `Scores`: a dict of scores by head, each a list with one number a candidate.

        Raises:
            ServingError: with the server's message.
            RequestError: the signature has no such input, or there are no candidates.
        """
        given = {"user_id": user_id, "item_ids": item_ids, **inputs}
        return self._run(self._calls.rank(signature_name, given))

    def explain(
        self,
        user_id: Any = None,
        item_ids: Any = None,
        *,
        history: Iterable[Any] | None = None,
        text: str | Sequence[str] | None = None,
        texts: Any = None,
        signature_name: str = "explain",
        **inputs: Any,
    ) -> Any:
        """Says what scores are made of, and why items are recommended or not.

        Args:
            user_id, history, text: as in `recommend`: give what was asked there.
            item_ids: the item's id, or a list of them; for many rows, a list of lists.
            texts: texts of items that are in no catalogue, one an item as in `rank`; or one text.
            signature_name: the signature that explains.
            **inputs: further inputs by name: `count` (how many sources are listed), and what `recommend` was
                asked with: `k`, `exclude`, `categories`, context, …; of the ranking model, `label`.

        Returns:
            `Explanations`: a list of `Explanation`, in the order of the items; for many rows, a list of such
            lists.

        Raises:
            ServingError: with the server's message.
            RequestError: the model was pushed before there was `explain`, has no such input, or there are no
                items.
        """
        given = {"user_id": user_id, "item_ids": item_ids, "history": history, "text": text, "texts": texts}
        return self._run(self._calls.explain(signature_name, {**given, **inputs}))

    def similar(
        self,
        item_id: Any = None,
        *,
        text: str | Sequence[str] | None = None,
        k: int = INPUTS["k"].default,
        signature_name: str = "similar",
        arm: str = "",
        **inputs: Any,
    ) -> Any:
        """Asks for the items most like one.

        Args:
            item_id: the item's id, or a list of them for many rows.
            text: of an item in no catalogue.
            k: how many items.
            signature_name: the signature that answers.
            arm: as in `recommend`.
            **inputs: `text_weight` (0: by who chooses them, 1: by their texts), `exclude`, `allow`,
                `categories`.

        Returns:
            `Recommendations`, best first; for many rows, a list of them. Of an item in no catalogue and
            without a text there are none, and it is one of `unknown_items`.

        Raises:
            ServingError: with the server's message.
            RequestError: the model was pushed before there was `similar`, or has no such input.
        """
        given = {"item_id": item_id, "text": text, **inputs}
        return self._run(self._calls.similar(signature_name, k, given, arm))

    def feedback(
        self,
        request_id: str,
        item: Any,
        kind: str,
        *,
        value: float | None = None,
        time: int | None = None,
        event_id: str | None = None,
    ) -> Any:
        """Says what came of an item that was shown.

        It goes to the embedded server (over REST, with `--impressions_folder`), or to the client's own log.

        Args:
            request_id: `Recommendations.request_id` of the list that the item was in.
            item: its id.
            kind: `click`, `purchase`, `like`, `dislike` or `dwell`.
            value: how much; of dwell in seconds. Values of several events add up.
            time: when, in microseconds since 1970; now where None.
            event_id: the same id twice counts once; made where None. A retry of the client repeats it.

        Returns:
            The `Feedback` as it was written.

        Raises:
            ServingError: with the server's message.
            FeedbackError: a value is out of range.
        """
        given = {"request_id": request_id, "item": item, "kind": kind, "value": value, "time": time,
                 "event_id": event_id}  # fmt: skip
        return self._run(self._calls.feedback(given))

    def embed(
        self, values: str | Sequence[str] | Mapping[str, Any], *, signature_name: str = "embed_text"
    ) -> Any:
        """Turns texts, queries or items into vectors.

        Args:
            values: one text, a list of texts, or columns by input name.
            signature_name: `embed_text`, `embed_query` or `embed_item`.

        Returns:
            A vector (a list of numbers) for one text, else a list of vectors.
        """
        return self._run(self._calls.embed(signature_name, values))

    def status(self) -> Any:
        """The states of the model's versions, highest first: dicts of `version`, `state` and `status`."""
        return self._run(self._calls.status())

    def metadata(self) -> Any:
        """The model's metadata, as the server words it in JSON."""
        return self._run(self._calls.metadata())


class Client(ServingMethods):
    """Asks a model and waits for the answer. Threads may share one; a `with` block closes it."""

    def _run(self, call: Call) -> Any:
        try:
            ask = next(call)
            while True:
                ask = call.send(self._send(ask))
        except StopIteration as end:
            return end.value

    def _send(self, ask: Ask) -> Any:
        return self.retry.send(lambda seconds: self.transport.send(ask, seconds), self.timeout)

    def close(self) -> None:
        """Closes kept connections."""
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncClient(ServingMethods):
    """`Client` for asyncio: the same arguments and methods, each method awaited."""

    async def _run(self, call: Call) -> Any:
        try:
            ask = next(call)
            while True:
                ask = call.send(await self._send(ask))
        except StopIteration as end:
            return end.value

    async def _send(self, ask: Ask) -> Any:
        return await self.retry.send_async(
            lambda seconds: self.transport.send_async(ask, seconds), self.timeout
        )

    async def close(self) -> None:
        """Closes kept connections."""
        await self.transport.close_async()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
