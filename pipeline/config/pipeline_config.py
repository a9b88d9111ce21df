"""The pipeline's configuration: what a YAML file holds, checked as it is read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Interval

from pipeline.config.vertex_config import VertexConfig
from pipeline.config.yaml_reading import read_yaml
from tfrec_fusion import config as library
from tfrec_fusion.config import ConfigError, Settings, SplitConfig, TransformConfig, from_dict
from tfrec_fusion.config.classifier import ClassifierConfig, check_beside
from tfrec_fusion.config.preparation import check_repeats
from tfrec_fusion.config.privacy import check_both, check_texts
from tfrec_fusion.datasets.edges import Graph
from tfrec_fusion.datasets.tables import IdRule, Interactions, Items, Tables, Users

CONFIGS = pathlib.Path(__file__).parent
BASELINES: dict[str, Literal["beat", "match", "show", "off"]] = {
    "popularity": "beat",
    "repeat": "beat",
    "als": "match",
    "content_knn": "match",
    "text_none": "off",
    "biases": "match",
    "click_rate": "match",
}

Count = Annotated[int, Interval(ge=1)]
CountOrNone = Annotated[int, Interval(ge=0)]
Finite = Annotated[float, Interval()]
Share = Annotated[float, Interval(ge=0, le=1)]
ProperShare = Annotated[float, Interval(gt=0, lt=1)]

# Flags of Beam for steps that run where they are called.
IN_PROCESS = ("--runner=DirectRunner", "--direct_running_mode=in_memory")


@dataclasses.dataclass(frozen=True)
class DataConfig(Settings):
    """Where the three tables come from.

    Attributes:
        reader: `tables` for CSV or Parquet files described here, or the name of a data set. `friends`: users
            choose users, as the edges of `graph.users` say; `items` may describe the table of users as those
            who are recommended, and `users` as those who are asked for.
        folder: for a data set: where its files are; looked for, or downloaded, where None.
        interactions, items, users: the tables (reader `tables`). Relative paths start at the YAML file.
        impressions: what was shown beside what was chosen, as a second table of interactions with `outcomes`,
            or in place of `interactions`: one's own, with a column of 0 and 1, or what `tfrec feedback
            collect` makes (docs/howto/feedback.md).
        click_threshold: a label at or above it counts as a positive (`click`) for the ranking model; without
            a label column every interaction is one.
        max_reject_share: of the rows of a table, the share that may be unusable before the run stops.
        graph: edges between items, such as the triples of a knowledge graph, and between users: see `Graph`.
        user_ids, item_ids: how ids are matched between the tables: `as_written`, as a `number` (`12`, `12.0`
            and `0012` are one), or `folded` (case and white space do not count). The ids that are served have
            that form.
    """

    reader: Literal["tables", "friends", "movielens_100k"] = "tables"
    folder: str | None = None
    interactions: Interactions | None = None
    impressions: Interactions | None = None
    items: Items | None = None
    users: Users | None = None
    graph: Graph | None = None
    click_threshold: Finite = 4.0
    max_reject_share: Share = 0.05
    user_ids: IdRule = "as_written"
    item_ids: IdRule = "as_written"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.impressions and not self.impressions.outcomes:
            raise ConfigError(
                "`data.impressions.outcomes` must name the columns of what came of it. Received: none. For"
                " example: outcomes: {click: 1}."
            )
        if self.impressions and self.reader != "tables":
            raise ConfigError(
                f"`data.impressions` is read with the reader `tables`. Received: {self.reader!r}. Describe"
                " all tables, or leave the impressions out."
            )
        if self.impressions and not self.interactions:
            object.__setattr__(self, "interactions", self.impressions)
            object.__setattr__(self, "impressions", None)
        if self.reader == "friends" and (self.interactions or not self.graph or not self.graph.users):
            raise ConfigError(
                "`data.reader: friends` reads the edges of `data.graph.users` in place of interactions."
                f" Received: graph={self.graph}, interactions={self.interactions}. Name the edges, and leave"
                " `data.interactions` out."
            )
        if self.reader == "friends" and self.graph and self.graph.items:
            raise ConfigError(
                "`data.reader: friends` has no items beside users. Received: `data.graph.items`, of"
                f" {self.graph.items[0].path!r}. Leave it out."
            )
        if self.reader == "tables" and not (self.interactions and self.items):
            raise ConfigError(
                "`data.interactions` and `data.items` must be described with the reader `tables`. Received:"
                f" interactions={self.interactions}, items={self.items}. Add them, or name a `data.reader`."
            )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig(Settings):
    """What a model must show before it is pushed.

    "Significantly" means: with the whole confidence interval, from a bootstrap over users, on one side.

    Attributes:
        k: cutoffs of Recall, NDCG and the like; the first one decides.
        slices: what figures are broken down by, besides overall: `item_activity` (cold, rare, common),
            `item_reach` (head, long tail, cold), `user_activity` (new, light, regular), `text_length`,
            `script` (of the writing), `period` (of time, where there are times), and any column of the tables
            as `item_<column>`, `user_<column>` or `context_<column>`.
        slice_values: of a column with more values, this many of the most frequent are shown, the rest
            together.
        baselines: what is trained beside the retrieval model on the same interactions, and whether the model
            must be significantly better (`beat`), not significantly worse (`match`), or is only shown beside
            it (`show`); `off` leaves it out. Those not named: `popularity: beat`, `repeat: beat` (with
            `split.repeats`: what the user chose before, by how often and how lately), `als: match`,
            `content_knn: match` (with text), and `text_none: off`, the same model without text, which costs a
                training; for the ranking model `biases: match`, a
            mean with a deviation for each user and item, and where there are no labels `click_rate: match`,
            how often each item was chosen.
        min_ndcg_gain: over each baseline to `beat`, in NDCG at the first `k`, that the interval must exceed.
        min_rmse_gain: over the baseline `biases`, in RMSE, that the ranking model must reach; where it is to
            `beat` them, with the whole interval.
        max_drop: how far the deciding metric may fall significantly below the last blessed model's
            (absolute); None allows anything.
        max_slice_drop: the same for every slice.
        thresholds: bounds by metric name, for example `{recall@100: 0.2, gini@10: 0.9}`: the least that a
            figure may be, or the most where less is better.
        slice_thresholds: the same for a slice, for example `{"item_activity=cold": {recall@100: 0.05}}`, or
            for every value of a feature, `{item_activity: {recall@100: 0.05}}`.
        changes: how much worse than the last blessed model's a figure may be, for example
            `{coverage@10: 0.05}`; significantly, where the figure is a mean over users (all but `auc`,
            `user_auc`, `user_ndcg`, `calibration`, `coverage` and `gini`).
        slice_changes: the same for a slice, or every value of a feature.
        confidence: of intervals over all users.
        slice_confidence: of slices, which are many: 25 of them at 0.998 raise a false alarm in 1 of 40 runs.
        min_users: with fewer users nothing is significant.
        push_baseline_when_none: whether the best baseline of the run is pushed under the retrieval model's
            signatures where no model was ever good enough, so that a first run ends in answers; here only,
            not on Vertex AI.
        max_interactions: of more held-out interactions (in a slice, if it has more), those of a random sample
            of users are judged, so that memory does not grow with the data.
    """

    k: tuple[Annotated[int, Interval(ge=1, le=100_000)], ...] = (10, 50, 100)
    slices: tuple[str, ...] = (
        "item_activity",
        "item_reach",
        "user_activity",
        "text_length",
        "script",
        "period",
    )
    slice_values: Count = 12
    baselines: dict[str, Literal["beat", "match", "show", "off"]] = dataclasses.field(default_factory=dict)
    min_ndcg_gain: Annotated[float, Interval(ge=-1, le=1)] = 0.0
    min_rmse_gain: Finite = 0.0
    max_drop: Share | None = 0.005
    max_slice_drop: Share | None = 0.0
    thresholds: dict[str, Finite] = dataclasses.field(default_factory=dict)
    slice_thresholds: dict[str, dict[str, Finite]] = dataclasses.field(default_factory=dict)
    changes: dict[str, Finite] = dataclasses.field(default_factory=dict)
    slice_changes: dict[str, dict[str, Finite]] = dataclasses.field(default_factory=dict)
    confidence: ProperShare = 0.95
    slice_confidence: ProperShare = 0.998
    min_users: CountOrNone = 10
    push_baseline_when_none: bool = True
    max_interactions: Count = 1_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.k:
            raise ConfigError(
                "`evaluation.k` must hold a cutoff. Received: an empty list. Name one, such as 10."
            )
        unknown = [name for name in self.baselines if name not in BASELINES]
        if unknown:
            raise ConfigError(
                f"`evaluation.baselines` must be of {', '.join(BASELINES)}. Received: {', '.join(unknown)}."
            )
        object.__setattr__(self, "baselines", {**BASELINES, **self.baselines})


@dataclasses.dataclass(frozen=True)
class ServingConfig(Settings):
    """Where models are pushed and how they are asked before that.

    Attributes:
        queries: free-text questions that the candidate must answer before it is pushed.
        rest_port: port of `tfrec serve`.
        ui_port: port of the page that `tfrec serve --ui` serves beside it.
        pictures: column of the items table that holds a picture of each item for that page: a file below the
            table's folder, or an address, which the browser of whoever looks at the page then asks.
        keep_versions: how many versions of each model stay where a server looks, the newest; null keeps all.
            The last trained model stays, and what the latest run pushed. Not on Vertex AI.
        recommender: whether both models are also pushed as one, which retrieves, ranks and re-ranks in one
            request; only with `text.stage: frozen`, where they share an encoder.
    """

    queries: tuple[str, ...] = ()
    rest_port: Annotated[int, Interval(ge=1, le=65_535)] = 8501
    ui_port: Annotated[int, Interval(ge=1, le=65_535)] = 8502
    pictures: str | None = None
    keep_versions: Count | None = 3
    recommender: bool = True


@dataclasses.dataclass(frozen=True)
class PipelineConfig(Settings):
    """A whole run. `ranking: null` leaves the ranking model out. `keep_runs`: what so many of the last runs
    made stays, beside what is served and what new candidates are compared with; null keeps all. `root`
    receives everything: artifacts, metadata, text vectors, `serving/`, summaries. `vertex` is where
    the same run goes on Vertex AI. `beam` holds flags of the Beam runner for the steps that handle data,
    here: by default the direct runner in this process. `mlflow` is a folder, or the address of a tracking
    server, where settings and figures of each run are logged by MLflow, which must be installed. `enrich` has
    a language model write about items, which the text tower reads. `classifier`: which class a text has."""

    name: str
    data: DataConfig
    root: str = "runs"
    split: SplitConfig = SplitConfig()
    transform: TransformConfig = TransformConfig()
    text: library.TextConfig | None = library.TextConfig()
    retrieval: library.RetrievalConfig = library.RetrievalConfig()
    ranking: library.RankingConfig | None = library.RankingConfig()
    index: library.IndexConfig = library.IndexConfig()
    classifier: ClassifierConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = ServingConfig()
    enrich: library.EnrichmentConfig | None = None
    keep_runs: Count | None = 3
    vertex: VertexConfig | None = None
    beam: tuple[str, ...] = IN_PROCESS
    mlflow: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name or any(
            sign not in "abcdefghijklmnopqrstuvwxyz0123456789_-" for sign in self.name.lower()
        ):
            raise ConfigError(
                "`name` must be letters, digits, `_` and `-` (it names folders and models). Received:"
                f" {self.name!r}."
            )
        if any("DaskRunner" in flag for flag in self.beam):
            raise ConfigError(
                "`beam` must name a runner that can run all steps. Received: DaskRunner, which mixes up the"
                " outputs of a step that has several and writes no files (see docs/howto/beam-runners.md)."
                " Use FlinkRunner, SparkRunner, PortableRunner or DataflowRunner."
            )
        if self.enrich is not None:
            check_texts(self.private, self.enrich.chosen_with, self.enrich.users)
        check_beside(self.classifier, self.text, self.private)
        check_both((kind, getattr(self, kind).training.privacy) for kind in self.kinds)
        for kind in self.kinds:
            library.check_training(getattr(self, kind).training, self.text)
        if self.ranking and self.data.interactions and self.data.items:
            tables = Tables(self.data.interactions, self.data.items, impressions=self.data.impressions)
            library.check_labels(self.ranking, tables.labels)
            if self.ranking.conversions and not tables.shows:
                raise ConfigError(
                    "`ranking.conversions` needs rows that were shown and not chosen. Received:"
                    f" {', '.join(self.ranking.conversions)}, and tables without. Describe `data.impressions`"
                    " or `data.interactions.outcomes`, or leave it out."
                )
        if self.data.interactions and self.data.interactions.time is None and self.split.by_time:
            raise ConfigError(
                f"`split.method: {self.split.method}` needs times. Received: `data.interactions.time` null. "
                "Name the column, or divide with `split.method: leave_last_out`."
            )
        check_repeats(self.split, self.has_times, self.data.reader == "friends")
        if not self.has_times:
            slices = tuple(name for name in self.evaluation.slices if name != "period")
            object.__setattr__(self, "evaluation", dataclasses.replace(self.evaluation, slices=slices))

    @property
    def has_times(self) -> bool:
        """Whether interactions have times; without, the order of a user's choices means nothing."""
        return self.data.interactions is None or self.data.interactions.time is not None

    @property
    def private(self) -> bool:
        """Whether training is differentially private."""
        return self.retrieval.training.privacy is not None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The models that are trained."""
        return ("retrieval",) if self.ranking is None else ("retrieval", "ranking")

    @property
    def builds_recommender(self) -> bool:
        """Whether both models are also put into one; not where each has trained a text encoder of its own."""
        both = self.ranking is not None
        return both and self.serving.recommender and not (self.text and self.text.trained)

    @property
    def home(self) -> pathlib.Path:
        """The folder of this pipeline's runs."""
        return pathlib.Path(self.root) / self.name

    @property
    def baselines(self) -> tuple[str, ...]:
        """The baselines of the retrieval model: those that are not off, less the ones that need text or
        repeats where there are none."""
        usable = {"popularity", "als"} | ({"content_knn", "text_none"} if self.text else set())
        usable |= {"repeat"} if self.split.repeats else set()
        demands = self.evaluation.baselines.items()
        return tuple(name for name, demand in demands if demand != "off" and name in usable)

    @property
    def answers_folder(self) -> pathlib.Path:
        """What a language model answered, kept between runs."""
        folder = self.enrich.folder if self.enrich else None
        return pathlib.Path(folder) if folder else self.home / "enrichment"

    @property
    def push_folder(self) -> pathlib.Path:
        """The base path of a server's models: one folder a model, one folder a version in it."""
        return self.home / "serving"


def load_config(path: str, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Reads a YAML file.

    Args:
        path: a file, or the name of one that the package ships (`movielens_100k`).
        overrides: `dotted.key=value` each, the value read as YAML; they win over the file.

    Returns:
        The configuration; relative paths in it start at the file's folder, `root` at the working directory.

    Raises:
        ConfigError: if the file is missing, is not YAML, or holds a key or value that does not fit.
    """
    path_given = pathlib.Path(path).expanduser()
    if not path_given.exists() and (CONFIGS / f"{path}.yaml").exists():
        path_given = CONFIGS / f"{path}.yaml"
    if not path_given.is_file():
        shipped = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml")))
        raise ConfigError(
            f"There is no configuration file {str(path)!r}. Name a YAML file, or one of: {shipped}."
        )
    try:
        values = read_yaml(path_given.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{str(path_given)!r} is not YAML: {error}") from error
    values = values or {}
    for override in overrides:
        _override(values, override)
    for name in ("text", "ranking", "enrich"):
        if isinstance(values, dict) and values.get(name) == "none":
            values[name] = None
    config = from_dict(PipelineConfig, values)
    parent = path_given.parent
    if config.enrich and config.enrich.folder:
        folder = str((parent / pathlib.Path(config.enrich.folder).expanduser()).absolute())
        config = dataclasses.replace(config, enrich=dataclasses.replace(config.enrich, folder=folder))
    if config.retrieval.warm_start:
        folder = str((parent / pathlib.Path(config.retrieval.warm_start).expanduser()).absolute())
        retrieval = dataclasses.replace(config.retrieval, warm_start=folder)
        config = dataclasses.replace(config, retrieval=retrieval)
    return dataclasses.replace(
        config, data=_resolve(config.data, path_given.parent), root=str(pathlib.Path(config.root).absolute())
    )


def _override(values: dict, override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign or not key:
        raise ConfigError(f"An override must read KEY=VALUE. Received: {override!r}.")
    *parents, last = key.split(".")
    for name in parents:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"`{key}` cannot be set: `{name}` is {values!r} and has no keys of its own.")
    try:
        values[last] = read_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"The value of `{key}` is not YAML. Received: {value!r}. Put it in quotes."
        ) from error


def _resolve(data: DataConfig, folder: pathlib.Path) -> DataConfig:
    """Makes relative paths start at the YAML file's folder."""

    def absolute(path: str) -> str:
        return path if "://" in path else str((folder / pathlib.Path(path).expanduser()).absolute())

    changes: dict = {"folder": absolute(data.folder) if data.folder else None}
    for name in ("interactions", "impressions", "items", "users"):
        table = getattr(data, name)
        if table:
            changes[name] = dataclasses.replace(table, path=absolute(table.path))
    if data.graph:
        changes["graph"] = data.graph.moved(lambda name, path: absolute(path))
    if data.items and data.items.media_columns:
        media = data.items.media.moved(changes["items"].path, absolute)
        changes["items"] = dataclasses.replace(changes["items"], media=media)
    if data.items and data.items.generated:
        generated = dataclasses.replace(data.items.generated, path=absolute(data.items.generated.path))
        changes["items"] = dataclasses.replace(changes["items"], generated=generated)
    if data.impressions and data.impressions.key_file:
        key_file = absolute(data.impressions.key_file)
        changes["impressions"] = dataclasses.replace(changes["impressions"], key_file=key_file)
    if data.interactions and data.interactions.join:
        join = dataclasses.replace(data.interactions.join, path=absolute(data.interactions.join.path))
        changes["interactions"] = dataclasses.replace(changes["interactions"], join=join)
    return dataclasses.replace(data, **changes)


def tables_of(config: PipelineConfig) -> Tables:
    """The three tables of a run; a data set's files are written as tables first. Texts that a language model
    will write stand among the items', without a file yet."""
    tables = _given_tables(config)
    if config.enrich is None:
        return tables
    if tables.items.generated is not None:
        raise ConfigError(
            "`enrich` and `data.items.generated` exclude each other: either texts are asked for, or they are"
            " in a"
            " file. Received: both. Remove one."
        )
    from tfrec_fusion.enrichment.asking import generated_text  # slow to import, and seldom needed

    generated = generated_text(config.enrich)
    return dataclasses.replace(tables, items=dataclasses.replace(tables.items, generated=generated))


def _given_tables(config: PipelineConfig) -> Tables:
    if config.data.reader == "movielens_100k":
        from tfrec_fusion.datasets.movielens import movielens_100k

        return movielens_100k(config.data.folder, str(config.home / "tables"))
    data = config.data
    if data.reader == "friends":
        from tfrec_fusion.datasets.friends import friend_tables

        assert data.graph is not None  # checked by DataConfig
        folder = str(config.home / "tables")
        described = data.items, data.users, data.user_ids
        return friend_tables(data.graph.users, folder, *described, data.max_reject_share)
    assert data.interactions is not None and data.items is not None  # checked by DataConfig
    return Tables(
        data.interactions, data.items, data.users, data.user_ids, data.item_ids, data.impressions, data.graph
    )


def to_json(value: object) -> str:
    """A dataclass as JSON with sorted keys: what travels to components and decides whether a result is
    reused."""
    return json.dumps(dataclasses.asdict(value), sort_keys=True)  # type: ignore[call-overload]


def flat_settings(config: PipelineConfig) -> dict[str, Any]:
    """Every setting by its key with dots, as JSON has values: `retrieval.training.epochs` → 20."""
    found: dict[str, Any] = {}

    def add(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                add(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            found[prefix] = value

    add("", json.loads(to_json(config)))
    return found


def code_digest(*packages: str) -> str:
    """A digest of source files: TFX's cache sees dotted names of callbacks, not their code.

    Args:
        packages: files, folders or patterns below the checkout, for example `tfrec_fusion/layers`.
    """
    digest = hashlib.sha256()
    root = pathlib.Path(__file__).parents[2]
    for package in packages:
        paths = sorted(root.glob(package))
        assert paths, package
        for path in paths:
            for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                digest.update(str(file.relative_to(root)).encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
