"""Experiments and exploration in the embedded server: which version answers whom, and in which order.

Off unless asked for. A user's arm is the hash of `experiments.assignment`, or what the request's header says;
it goes into the log of impressions and back to the client. Where the server explores, the answer to
`recommend` has an output `propensities` beside the signature's own; where it interleaves, an output `arms`
(`interleaved`), and it does not explore.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from tfrec_fusion.experiments.assignment import Arm, Experiment, arms_of, arms_text, assign
from tfrec_fusion.experiments.checks import ExperimentError
from tfrec_fusion.experiments.exploring import Exploration, Explored, explore
from tfrec_fusion.impressions.contract import is_arm
from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.server.impressions import SIGNATURES, Origin
from tfrec_fusion.serving.server.interleaved import RECOMMEND, Interleaver
from tfrec_fusion.serving.server.session import LoadedModel, Signature
from tfrec_fusion.serving.server.versions import ModelManager

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
Run = Callable[[LoadedModel, Signature, Arrays], Arrays]

MAX_ROWS = 16
"""Rows of a request that is explored or interleaved; larger ones are batches that nobody looks at."""

_LISTS = ("item_ids", "scores", "titles")


class Trials:
    """What a server tries out.

    Args:
        experiments: whose arms users have; at most one of them may name versions.
        exploration: of the answers to `recommend`; None for none.
        manager: finds the versions.
        seed: of exploration's draws; random where None.

    Raises:
        ExperimentError: two experiments name versions, or two have the same name.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        exploration: Exploration | None,
        manager: ModelManager,
        seed: int | None = None,
    ):
        routing = [one.name for one in experiments if any(_routes(arm) for arm in one.arms)]
        if len(routing) > 1:
            raise ExperimentError(
                "At most one experiment may say which version answers. Received: " + ", ".join(routing) + "."
            )
        if len({one.name for one in experiments}) < len(experiments):
            raise ExperimentError("Experiments must have different names.")
        longest = arms_text({one.name: max((arm.name for arm in one.arms), key=len) for one in experiments})
        if not is_arm(longest):
            raise ExperimentError(
                "Names of experiments and arms must have at most 200 characters together. Received:"
                f" {len(longest)}. Give them shorter names: they stand in a header and in each line of the"
                " log."
            )
        self.experiments = {one.name: one for one in experiments}
        both = [Interleaver(one, manager, MAX_ROWS) for one in experiments if one.interleave]
        self._interleaver = both[0] if both else None
        self.exploration = exploration
        self._manager = manager
        self._random = np.random.default_rng(seed)
        self._shown: dict[tuple[str, bytes], float] = {}
        self._most: dict[tuple[str, int], int] = {}
        self._lock = threading.Lock()
        self._warned: set[str] = set()

    def answer(
        self,
        origin: Origin,
        pinned: bool,
        model: LoadedModel,
        signature: Signature,
        inputs: Arrays,
        run: Run,
        output_filter: Sequence[str] = (),
    ) -> tuple[LoadedModel, Signature, Arrays]:
        """Answers a request to predict.

        Args:
            origin: whose arm becomes what was assigned.
            pinned: whether the request names a version, which no experiment changes then.
            model, signature, inputs: of the request, as they would be without experiments.
            run: runs a signature.
            output_filter: outputs that the request asks for; all where empty.

        Returns:
            Who answered, and outputs.

        Raises:
            StatusError: INVALID_ARGUMENT where rows of one request have different arms, or a header names an
                arm that there is not.
        """
        if signature.name not in SIGNATURES:
            return model, signature, run(model, signature, inputs)
        arms: dict[str, Arm] = {}
        if not pinned and self.experiments:
            arms = self._arms(inputs.get("user_id"), origin.arm)
            model, signature, arms = self._routed(model, signature, arms)
            names = {name: arm.name for name, arm in arms.items()}
            others = {name: arm for name, arm in _sent(origin.arm).items() if name not in self.experiments}
            text = arms_text({**names, **others})
            origin.arm = text if is_arm(text) else arms_text(names)
            origin.assigned = bool(names)
            if (
                found := self._interleaved(origin, arms, model, signature, inputs, run, output_filter)
            ) is not None:
                return model, signature, found
        if not self._explores(signature, inputs, arms, output_filter):
            return model, signature, run(model, signature, inputs)
        return model, signature, self._explored(model, signature, inputs, run)

    def _arms(self, users: np.ndarray | None, sent: str) -> dict[str, Arm]:
        named = {name: arm for name, arm in _sent(sent).items() if name in self.experiments}
        arms = {}
        for name, text in named.items():
            known = {arm.name: arm for arm in self.experiments[name].arms}
            if text not in known:
                raise invalid_argument(f"The arms of {name} are {', '.join(known)}. Received: {text}.")
            arms[name] = known[text]
        open_ones = [one for name, one in self.experiments.items() if name not in named]
        if not open_ones or users is None or not users.size:
            return arms
        drawn = [assign(open_ones, user) for user in dict.fromkeys(users.ravel().tolist())]
        if any(one != drawn[0] for one in drawn):
            raise invalid_argument(
                "While an experiment runs, the users of one request must have the same arm. Ask for one user"
                " at a"
                " time, or name a version, which no experiment changes."
            )
        return {**arms, **drawn[0]}

    def _routed(
        self, model: LoadedModel, signature: Signature, arms: dict[str, Arm]
    ) -> tuple[LoadedModel, Signature, dict[str, Arm]]:
        """The arm's version. One that cannot answer leaves the user to the others, and out of the
        experiment."""
        for name, arm in arms.items():
            if not _routes(arm):
                continue
            try:
                other = self._manager.get(model.name, arm.version, arm.label)
                chosen = other.signature(signature.name)
                if chosen is None or chosen.inputs != signature.inputs:
                    raise invalid_argument(f"version {other.version} has other inputs")
            except StatusError as error:
                if name + arm.name not in self._warned:
                    self._warned.add(name + arm.name)
                    logger.warning(
                        "Users of arm %s of %s are answered without it: %s", arm.name, name, error.message
                    )
                return model, signature, {key: one for key, one in arms.items() if key != name}
            return other, chosen, arms
        return model, signature, arms

    def _interleaved(
        self,
        origin: Origin,
        arms: dict[str, Arm],
        model: LoadedModel,
        signature: Signature,
        inputs: Arrays,
        run: Run,
        output_filter: Sequence[str],
    ) -> Arrays | None:
        """The list of both versions; None where the request is answered by one. A header that names an arm
        gets that one."""
        chosen = self._interleaver
        if chosen is None or chosen.experiment.name in arms:
            return None
        if not chosen.takes(signature, inputs.get("user_id"), output_filter):
            return None
        versions = chosen.both(model, signature)
        if versions is None:
            return None
        answers = [run(one, own, inputs) for one, own in versions]
        return chosen.merged(answers[0], answers[1], origin.request_id)

    def _explores(
        self, signature: Signature, inputs: Arrays, arms: dict[str, Arm], output_filter: Sequence[str]
    ) -> bool:
        outputs = output_filter or signature.output_names
        return (
            self.exploration is not None
            and signature.name == RECOMMEND
            and all(arm.explore for arm in arms.values())
            and {"item_ids", "scores"} <= set(outputs)
            and inputs.get("k") is not None
            and inputs["k"].ndim == 0
            and max((array.shape[0] for array in inputs.values() if array.ndim), default=0) <= MAX_ROWS
        )

    def _explored(self, model: LoadedModel, signature: Signature, inputs: Arrays, run: Run) -> Arrays:
        exploration = self.exploration
        assert exploration is not None
        k = inputs["k"]
        if k < 1:  # the model's own error
            return run(model, signature, inputs)
        outputs = self._candidates(model, signature, inputs, run)
        items, scores = outputs["item_ids"], outputs["scores"]
        length = min(int(k), items.shape[1])
        order = np.tile(np.arange(length), (len(items), 1))
        propensities = np.ones(order.shape, np.float32)
        for row, (ids, values) in enumerate(zip(items, scores, strict=True)):
            real = np.flatnonzero(ids != b"")
            if not len(real) or not np.isfinite(values[real]).all():
                continue
            drawn = self._draw(model.name, ids[real], values[real], length, exploration)
            chosen = real[drawn.order]
            order[row, : len(chosen)] = chosen
            order[row, len(chosen) :] = np.flatnonzero(ids == b"")[: length - len(chosen)]
            propensities[row, : len(chosen)] = drawn.propensities
        for name in _LISTS:
            if name in outputs:
                outputs[name] = np.take_along_axis(outputs[name], order, 1)
        return {**outputs, "propensities": propensities}

    def _candidates(self, model: LoadedModel, signature: Signature, inputs: Arrays, run: Run) -> Arrays:
        """The answer with as many items as take part in exploration, or as the model gives: one whose
        catalogue is smaller refuses, and is asked for half as many, from then on."""
        assert self.exploration is not None
        k, key = inputs["k"], (model.name, model.version)
        most = self._most.get(key, self.exploration.top)
        while most > int(k):
            try:
                return dict(run(model, signature, {**inputs, "k": np.asarray(most, k.dtype)}))
            except StatusError as error:
                if error.code != "INVALID_ARGUMENT":
                    raise
                run(model, signature, inputs)  # where it is another fault, the request's own error
                most = most // 2
                self._most[key] = most
        return dict(run(model, signature, inputs))

    def _draw(
        self, name: str, ids: np.ndarray, scores: np.ndarray, k: int, exploration: Exploration
    ) -> Explored:
        keys = [(name, item) for item in ids.tolist()]
        with self._lock:
            shown = np.array([self._shown.get(key, 0.0) for key in keys])
            drawn = explore(scores.astype(np.float64), k, exploration, self._random, shown)
            for index in drawn.order.tolist():
                self._shown[keys[index]] = self._shown.get(keys[index], 0.0) + 1
        return drawn


def open_trials(
    experiments: Sequence[Experiment], exploration: Exploration | None, manager: ModelManager
) -> Trials | None:
    """What a server tries out; None where that is nothing. Raises StatusError for what cannot be tried."""
    try:
        return Trials(experiments, exploration, manager) if experiments or exploration else None
    except ExperimentError as error:
        raise invalid_argument(str(error)) from None


def _routes(arm: Arm) -> bool:
    return arm.version is not None or arm.label is not None


def _sent(text: str) -> dict[str, str]:
    try:
        return arms_of(text)
    except ExperimentError as error:
        raise invalid_argument(str(error)) from None
