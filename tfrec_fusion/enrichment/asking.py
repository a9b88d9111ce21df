"""Asks about everything that has no answer yet, several at once, within a budget, and writes the results."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet

from tfrec_fusion import files
from tfrec_fusion.config import ConfigError, EnrichmentConfig, SplitConfig
from tfrec_fusion.datasets.tables import GeneratedText, Tables
from tfrec_fusion.enrichment.answers import Answer, Answers, digest
from tfrec_fusion.enrichment.budget import Budget, Cost, Messages, estimate
from tfrec_fusion.enrichment.endpoint import BudgetSpent, Endpoint, EndpointError, NotAnswered
from tfrec_fusion.enrichment.subjects import Subject, read_subjects
from tfrec_fusion.enrichment.verdicts import UNASKED, USED, Verdict, judge

__all__ = [
    "USERS",
    "Enriched",
    "enrich",
    "forget_users",
    "generated_text",
    "new_version",
    "newest",
    "preview",
    "write",
]

ITEMS, USERS, REPORT, CONTENT = "items.parquet", "users.parquet", "report.json", "content"
INCOMPLETE, LOCK = "incomplete_runs", "enrichment.lock"
VERSIONS, OF_USERS = "versions", "users"  # folders beside the answers
FAILURES = 8  # questions in a row without an answer, after all their retries, before the asking ends
Say = Callable[[str], None]
Stores = dict[str, Answers]


@dataclasses.dataclass(frozen=True)
class Enriched:
    """What a language model wrote.

    Attributes:
        texts: `item` and `user` → id → text; those without a text are not there.
        verdicts: `item` and `user` → id → what became of the answer.
        report: counts by verdict, requests, tokens and money.
        stopped: why the asking ended early; "" where it did not.
    """

    texts: dict[str, dict[str, str]]
    verdicts: dict[str, dict[str, Verdict]]
    report: dict[str, Any]
    stopped: str = ""


def enrich(
    tables: Tables,
    split: SplitConfig,
    config: EnrichmentConfig,
    folder: str | os.PathLike[str],
    say: Say = lambda line: None,
    transport: httpx.BaseTransport | None = None,
) -> Enriched:
    """Has a language model write about items, and users if they are to be.

    Answers are kept in the folder as they come; what is there is not asked again, whoever asked for it.

    Args:
        tables: the tables.
        split: how a run divides the interactions: texts are made of training interactions alone.
        config: what is asked, whom, and what it may cost.
        folder: keeps the answers.
        say: is told of the estimate, and of the count every now and then.
        transport: in place of the network.

    Raises:
        ConfigError: for tables or columns that cannot be used, or where another process asks into the folder.
        EndpointError: where the endpoint answers nothing, or too few items have an answer (`min_share`); what
            was answered is kept.
    """
    _check_column(config, tables)
    subjects = read_subjects(tables, split, config)
    with files.lock(pathlib.Path(folder) / LOCK, "tfrec enrich"):
        answers = _stores(folder)
        missing = _missing(subjects, answers, config)
        budget = Budget(config)
        expected = estimate((subject.messages for subject in missing), config.endpoint)
        say(_before(subjects, missing, expected, config))
        asked = {"asked": 0, "retried": 0}
        failed: dict[str, str] = {}
        stopped = ""
        if missing:
            with Endpoint(config.endpoint, budget, transport) as endpoint:
                asking = _Asking(endpoint, answers, budget, len(missing), say)
                stopped = asking.ask(missing)
                asked, failed = {"asked": asking.answered, "retried": endpoint.retried}, asking.failed
        result = _result(subjects, answers, config, failed, stopped)
    spent = {
        "read": budget.spent.read,
        "written": budget.spent.written,
        "money": round(budget.spent.money, 6),
    }
    damaged = sum(store.damaged for store in answers.values())
    result.report.update(asked, spent=spent, damaged_answers=damaged, stopped=stopped)
    say(_after(result, budget.spent))
    _check_share(result, config)
    return result


def preview(
    tables: Tables, split: SplitConfig, config: EnrichmentConfig, folder: str | os.PathLike[str]
) -> tuple[str, list[Messages]]:
    """What `enrich` would say before it asks, and the questions; asks nothing."""
    _check_column(config, tables)
    subjects = read_subjects(tables, split, config)
    missing = _missing(subjects, _stores(folder), config)
    questions: list[Messages] = [subject.messages for subject in missing]
    return _before(subjects, missing, estimate(questions, config.endpoint), config), questions


def incomplete_runs(folder: str | os.PathLike[str]) -> int:
    """How many runs left a question without an answer: what a run made then must be made again."""
    try:
        return int((pathlib.Path(folder) / INCOMPLETE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def count_run(result: Enriched, folder: str | os.PathLike[str]) -> None:
    """Counts a run that left a question without an answer."""
    found = {verdict for verdicts in result.verdicts.values() for verdict in verdicts.values()}
    if found & {"failed", "not_asked"}:
        files.write_text(pathlib.Path(folder) / INCOMPLETE, str(incomplete_runs(folder) + 1))


class _Asking:
    """Questions under way. Only the thread that called `ask` changes the counts."""

    def __init__(self, endpoint: Endpoint, answers: Stores, budget: Budget, total: int, say: Say):
        self.endpoint, self.answers, self.budget, self.total, self.say = endpoint, answers, budget, total, say
        self.answered = 0
        self.failed: dict[str, str] = {}
        self._end = threading.Event()

    def ask(self, subjects: Sequence[Subject]) -> str:
        """Asks about all; returns why it ended early, "" where it did not."""
        concurrency = self.endpoint.config.concurrency
        waiting, running, in_a_row = iter(subjects), dict[Future, str](), 0
        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="enrich")
        try:
            while True:
                while len(running) < 2 * concurrency and (subject := next(waiting, None)) is not None:
                    key = digest(subject.messages, self.endpoint.config)
                    running[pool.submit(self._one, key, subject)] = key
                if not running:
                    return ""
                done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    key = running.pop(future)
                    try:
                        future.result()
                    except BudgetSpent:
                        return "the budget is spent"
                    except NotAnswered as error:
                        self.failed[key], in_a_row = str(error), in_a_row + 1
                        if in_a_row >= FAILURES:
                            return f"{in_a_row} questions in a row were not answered; the last: {error}"
                    else:
                        self.answered, in_a_row = self.answered + 1, 0
                        self._count()
        finally:
            self._end.set()
            pool.shutdown(wait=False, cancel_futures=True)
            self._finish(running)

    def _one(self, key: str, subject: Subject) -> bool:
        if self._end.is_set():
            return False
        self.answers[subject.kind].put(key, self.endpoint.ask(subject.messages))
        return True

    def _finish(self, running: dict[Future, str]) -> None:
        """Waits for what was sent already: it is paid for, and kept."""
        self.endpoint.stop_waiting()
        for future in list(running):
            with contextlib.suppress(EndpointError, TimeoutError, CancelledError):
                if not future.cancelled() and not future.cancel():
                    self.answered += future.result(timeout=self.endpoint.config.timeout_seconds)

    def _count(self) -> None:
        step = max(1, self.total // 20)
        if self.answered % step == 0 or self.answered == self.total:
            self.say(f"{self.answered:,} of {self.total:,} answered, {self.budget.spent}")


def _stores(folder: str | os.PathLike[str]) -> Stores:
    """Answers about items, and about users in a folder of their own, which can be removed alone."""
    return {"item": Answers(folder), "user": Answers(pathlib.Path(folder) / OF_USERS)}


def forget_users(folder: str | os.PathLike[str]) -> list[str]:
    """Removes what was answered and written about users; what was written about items stays.

    Returns:
        What was removed.

    Raises:
        AtWork: where another process asks into the folder.
    """
    target = pathlib.Path(folder)
    if not target.is_dir():
        return []
    with files.lock(target / LOCK, "tfrec forget"):
        tables = sorted(target.glob(f"{VERSIONS}/*/{USERS}"))
        for table in tables:
            table.unlink()
            # The next version is another, whatever it holds.
            (table.parent / CONTENT).unlink(missing_ok=True)
        removed = [str(table) for table in tables]
        if (target / OF_USERS).is_dir():
            files.remove_folder(target / OF_USERS)
            removed.append(str(target / OF_USERS))
    return removed


def _missing(subjects: Sequence[Subject], answers: Stores, config: EnrichmentConfig) -> list[Subject]:
    """One subject for each question that has no answer; equal ones are asked once."""
    missing: dict[str, Subject] = {}
    for subject in subjects:
        if _asked(subject, config):
            key = digest(subject.messages, config.endpoint)
            if answers[subject.kind].get(key) is None:
                missing.setdefault(key, subject)
    return list(missing.values())


def _asked(subject: Subject, config: EnrichmentConfig) -> bool:
    return bool(subject.messages) and not (subject.suspicious and config.suspicious == "skip")


def _result(
    subjects: Sequence[Subject],
    answers: Stores,
    config: EnrichmentConfig,
    failed: dict[str, str],
    stopped: str,
) -> Enriched:
    texts: dict[str, dict[str, str]] = {"item": {}, "user": {}}
    verdicts: dict[str, dict[str, Verdict]] = {"item": {}, "user": {}}
    for subject in subjects:
        text, verdict = "", "suspicious" if subject.messages else "untold"
        if _asked(subject, config):
            key = digest(subject.messages, config.endpoint)
            answer: Answer | None = answers[subject.kind].get(key)
            if answer is None:
                verdict = "failed" if key in failed else "not_asked"
            else:
                text, verdict = judge(
                    answer.text,
                    subject.instructions,
                    subject.told,
                    config.max_characters,
                    answer.finish,
                    answer.refusal,
                )
        verdicts[subject.kind][subject.id] = verdict  # type: ignore[assignment]
        if verdict in USED:
            texts[subject.kind][subject.id] = text
    report: dict[str, Any] = {
        f"{kind}s": {"all": len(found), **dict(sorted(collections.Counter(found.values()).items()))}
        for kind, found in verdicts.items()
        if found
    }
    report["suspicious"] = sum(subject.suspicious for subject in subjects)
    report["model"] = config.endpoint.model
    if failed:
        report["last_failure"] = list(failed.values())[-1]
    return Enriched(texts, verdicts, report, stopped)


def _before(
    subjects: Sequence[Subject], missing: Sequence[Subject], expected: Cost, config: EnrichmentConfig
) -> str:
    budget = [
        f"{limit:,}{unit}"
        for limit, unit in ((config.budget_tokens, " tokens"), (config.budget_money, " in money"))
        if limit is not None
    ]
    limits = f"; budget {' and '.join(budget)}" if budget else "; no budget"
    about = f": at most about {expected}{limits}" if missing else ": nothing to ask"
    count = collections.Counter(subject.kind for subject in subjects)
    kinds = " and ".join(f"{number:,} {kind}s" for kind, number in count.items())
    return f"{kinds}; {len(missing):,} questions to ask {config.endpoint.model}{about}"


def _after(result: Enriched, spent: Cost) -> str:
    parts = []
    for kind in ("items", "users"):
        counts = dict(result.report.get(kind, {}))
        if counts:
            total = counts.pop("all")
            parts.append(f"{total:,} {kind}: {', '.join(f'{n:,} {name}' for name, n in counts.items())}")
    why = f"; ended early: {result.stopped}" if result.stopped else ""
    return f"{'; '.join(parts)}; asked {result.report['asked']:,}, spent {spent}{why}"


def _check_share(result: Enriched, config: EnrichmentConfig) -> None:
    found = result.verdicts["item"]
    good = sum(verdict in (*USED, *UNASKED) for verdict in found.values())
    share = good / len(found) if found else 1.0
    if share < config.min_share:
        last = result.report.get("last_failure")
        reasons = result.stopped or (f"the last failure: {last}" if last else "see the counts by verdict")
        raise EndpointError(
            f"At least {config.min_share:.0%} of the items must have a text (`enrich.min_share`). Received:"
            f" {share:.1%}"
            f" ({good:,} of {len(found):,}); {reasons}. What was answered is kept: run again, raise the"
            f" budget, or"
            " lower the share."
        )


def write(result: Enriched, config: EnrichmentConfig, folder: str | os.PathLike[str]) -> None:
    """Writes texts, verdicts and the report into a folder.

    `items.parquet` and, where there are any, `users.parquet`: ids, texts (null where there is none) and
    verdicts. `report.json`: counts.
    """
    target = pathlib.Path(folder)
    for kind, name, key in (("item", ITEMS, "item_id"), ("user", USERS, "user_id")):
        found = result.verdicts[kind]
        if not found:
            continue
        columns = {
            key: pa.array(list(found), pa.string()),
            config.column: pa.array([result.texts[kind].get(one) for one in found], pa.string()),
            "verdict": pa.array(list(found.values()), pa.string()),
        }
        with files.whole_file(target / name, binary=True) as stream:
            pyarrow.parquet.write_table(pa.table(columns), stream)
    files.write_json(target / REPORT, result.report)


def generated_text(config: EnrichmentConfig, folder: str | os.PathLike[str] = "") -> GeneratedText:
    """How tables name what `write` wrote: the items' texts in a folder; "" where the folder is
    not known yet."""
    path = os.path.join(os.fspath(folder), ITEMS) if os.fspath(folder) else ""
    return GeneratedText(path, "item_id", config.column, config.use)


def new_version(
    result: Enriched, config: EnrichmentConfig, folder: str | os.PathLike[str]
) -> tuple[pathlib.Path, bool]:
    """Writes the results as a numbered folder beside the answers, unless the newest one holds the same.

    Returns:
        The folder, and whether it is new.
    """
    state = {"texts": result.texts, "verdicts": result.verdicts, "column": config.column}
    name = digest([{"content": json.dumps(state, sort_keys=True)}], config.endpoint)
    before = newest(folder)
    if before is not None:
        with contextlib.suppress(OSError):
            if (before / CONTENT).read_text(encoding="utf-8") == name:
                return before, False
    made = pathlib.Path(folder) / VERSIONS / str(int(before.name) + 1 if before else 1)
    with files.whole_folder(made) as staging:
        write(result, config, staging)
        files.write_text(staging / CONTENT, name)
        files.write_json(staging / "settings.json", dataclasses.asdict(config))
    return made, True


def newest(folder: str | os.PathLike[str]) -> pathlib.Path | None:
    """The newest version beside answers; None where there is none."""
    target = pathlib.Path(folder) / VERSIONS
    entries = target.iterdir() if target.is_dir() else ()
    versions = [one for one in entries if one.is_dir() and files.version_of(one.name) is not None]
    return max(versions, key=lambda one: int(one.name), default=None)


def _check_column(config: EnrichmentConfig, tables: Tables) -> None:
    """Refuses a column's name that the output or the items' texts have already.

    Raises:
        ConfigError: naming it.
    """
    if config.column in ("item_id", "user_id", "verdict", *tables.items.text):
        raise ConfigError(
            f"`enrich.column` must be a new name. Received: {config.column!r}, which is taken. Choose"
            f" another."
        )
