# %% [markdown]
# # The pipeline, component by component, and where a model came from
#
# `tfrec run` turns tables into served models in one go. Here the same TFX pipeline is run a component at a
# time, to look at what each one leaves: Examples, TFDV's statistics and schema, what Transform learned,
# TFMA's figures, and at the end the record that ML Metadata keeps of it all: which data, parameters and code
# a served model was made from.

# %%
import collections, contextlib, json, logging, os, pathlib, tempfile, warnings
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tfrec_fusion
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
from pipeline.config.pipeline_config import load_config, tables_of

SMALL = os.environ.get("TFREC_NOTEBOOK_SMALL") == "1"
BLUE, AMBER, GREEN, GREY = "#3b82f6", "#f59e0b", "#10b981", "#9aa3af"
plt.rcParams.update({"figure.figsize": (9, 3.2), "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True, "legend.frameon": False})

# %% [markdown]
# **A configuration**: MovieLens 100K, of which some people are taken so that a run takes minutes. (Seconds
# below are those of a machine that was busy with other things; see the README for quiet ones.)

# %%
work = pathlib.Path(tempfile.mkdtemp())
shipped = tables_of(load_config("movielens_100k", [f"root={work}"]))
ratings = pd.read_parquet(shipped.interactions.path)
people = ratings.user_id.drop_duplicates().sample(60 if SMALL else 250, random_state=1)
ratings[ratings.user_id.isin(people)].to_parquet(work / "ratings.parquet")
(work / "films.yaml").write_text(f"""
name: films
root: {work}
data:
  interactions: {{path: ratings.parquet, label: rating}}
  items: {{path: {shipped.items.path}, title: title, text: [title, genres], lists: [genres], numbers: [year]}}
  users: {{path: {shipped.users.path}, categories: [gender, occupation], numbers: [age]}}
retrieval: {{training: {{epochs: {1 if SMALL else 6}}}}}
ranking: {{training: {{epochs: {1 if SMALL else 6}}}}}
serving: {{queries: [a space adventure with robots]}}
""")
config = load_config(str(work / "films.yaml"))
ratings.head(3)

# %% [markdown]
# **The pipeline** is a graph of components: each waits for what it reads. `create_pipeline` wires it, TFX
# compiles it; the same graph is compiled for Vertex AI.

# %%
from pipeline.definition.training import create_pipeline
from pipeline.runner.interruption import Interrupts
from pipeline.runner.launching import Nodes, launch
from pipeline.runner.console import Table

with contextlib.redirect_stdout(None):
    nodes = Nodes(create_pipeline(config))
needs = {node.node_info.id: list(node.upstream_nodes) for node in nodes.all}

def layered(needs):
    """name → (column, row): a column to the right of all that a name needs."""
    column, place = {}, {}
    for name in needs:  # in topological order
        column[name] = 1 + max((column[other] for other in needs[name]), default=-1)
    for number in range(max(column.values()) + 1):
        names = [name for name in needs if column[name] == number]
        names.sort(key=lambda name: np.mean([place[other][1] for other in needs[name]] or [0]))
        place.update({name: (number, row - (len(names) - 1) / 2) for row, name in enumerate(names)})
    return place

def draw(needs, colour, label=lambda name: name, size=(12, 4), fontsize=7):
    """Boxes from left to right, and arrows from what is needed to what needs it."""
    place = layered(needs)
    figure, ax = plt.subplots(figsize=size)
    across, down = zip(*place.values())
    ax.set_xlim(-0.7, max(across) + 0.7), ax.set_ylim(-max(down) - 0.7, -min(down) + 0.7), ax.set_axis_off()
    boxes = {name: ax.text(x, -y, label(name), ha="center", va="center", fontsize=fontsize, color="white", bbox={"boxstyle": "round,pad=0.5", "fc": colour(name), "ec": "none"}) for name, (x, y) in place.items()}
    figure.canvas.draw()  # arrows end at the edges of boxes, which are known only now
    for name, (x, y) in place.items():
        for other in needs[name]:
            # An arrow that a longer way round implies would only hide the picture.
            if not any(other in reachable(needs, between) for between in needs[name] if between != other):
                ends = {"patchA": boxes[other].get_bbox_patch(), "patchB": boxes[name].get_bbox_patch()}
                ax.annotate("", (x, -y), (place[other][0], -place[other][1]), zorder=0, arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 0.8, "shrinkA": 1, "shrinkB": 1, **ends})
    plt.show()

def reachable(needs, name):
    return {name}.union(*(reachable(needs, other) for other in needs[name]))

def words(name):
    """A component's name on two lines."""
    for ending in ("ServingValidator", "Transform", "Statistics", "Schema", "Validator", "Trainer", "Evaluator", "Pusher", "Builder", "Baseline", "Embeddings", "ExampleGen", "Examples"):
        if name.endswith(ending) and name != ending:
            return f"{name.removesuffix(ending)}\n{ending}"
    return name

def kind(name):
    return GREEN if "Retrieval" in name else AMBER if "Ranking" in name else "#8b5cf6" if "Recommender" in name else BLUE

draw(needs, kind, words)

# %%
steps, outputs = [], {}

def run_to(last):
    """Runs the components up to one, and says what each left; what has not changed is not run again."""
    log = work / "notebook.log"
    with Table(log, f"up to {last}") as table, Interrupts() as interrupts:
        for node in nodes.all[len(steps):]:
            steps.append(launch(node, nodes, table, log, interrupts))
            outputs.update({f"{steps[-1].name}/{name}": artifact.uri for name, artifact in steps[-1].artifacts.items()})
            if node.node_info.id == last:
                break
    shown = [step for step in steps if step.megabytes]
    return pd.DataFrame({"state": [step.state for step in shown], "seconds": [round(step.seconds, 1) for step in shown], "result": [step.result for step in shown]}, index=[step.name for step in shown])

pd.set_option("display.max_colwidth", 100)
run_to("TablesExampleGen")

# %% [markdown]
# **Examples.** Thin ones: ids, what was known at that moment, the history before it, the label; nothing of an
# item's text. Splits divide by time.

# %%
from pipeline.data.catalogue_reading import split_files

def examples(output, split):
    files = split_files(outputs[output], split)
    return (tf.train.Example.FromString(record) for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())

def plain(example):
    found = {}
    for name, feature in sorted(example.features.feature.items()):
        values = list(getattr(feature, feature.WhichOneof("kind")).value)
        found[name] = ", ".join(value.decode() if isinstance(value, bytes) else f"{value:g}" for value in values[-6:]) + (" (the last of %d)" % len(values) if len(values) > 6 else "")
    return found

late = next(example for example in examples("TablesExampleGen/interactions", "test") if len(example.features.feature["history"].bytes_list.value) > 6)
pd.DataFrame({"a test interaction": plain(late)})

# %%
def days(split):
    return pd.to_datetime([example.features.feature["time"].int64_list.value[0] if example.features.feature["time"].int64_list.value else example.features.feature["time"].float_list.value[0] for example in examples("TablesExampleGen/interactions", split)], unit="s")

moments = {split: days(split) for split in ("train", "validation", "test")}
plt.hist(list(moments.values()), bins=60, stacked=True, color=[BLUE, AMBER, GREEN], label=[f"{split} ({len(found):,})" for split, found in moments.items()])
plt.ylabel("interactions"), plt.legend()
plt.show()

# %% [markdown]
# **Statistics, schema, validation (TFDV).** The schema is written by this project, not inferred: what must be
# there, of which type, in which range. The validator stops a run on anomalies. In Jupyter,
# `tfdv.visualize_statistics(statistics)` opens the Facets page (it loads scripts from the network, so it is
# not kept here); the same figures as pictures:

# %%
run_to("ItemsValidator")

# %%
statistics = tfdv.load_stats_binary(str(pathlib.Path(outputs["InteractionsStatistics/statistics"], "Split-train", "FeatureStats.pb")))
by_name = {feature.path.step[0]: feature for feature in statistics.datasets[0].features}
label, history, item = by_name["label"], by_name["history"], by_name["item_id"]
axes = plt.subplots(1, 3, figsize=(11, 3))[1]
bars = next(histogram for histogram in label.num_stats.histograms if histogram.type == histogram.STANDARD).buckets
axes[0].bar([bucket.low_value for bucket in bars], [bucket.sample_count for bucket in bars], width=[0.9 * (bucket.high_value - bucket.low_value) for bucket in bars], align="edge", color=BLUE)
axes[0].set_title("label", fontsize=10)
lengths = history.string_stats.common_stats.num_values_histogram.buckets
axes[1].plot([bucket.high_value for bucket in lengths], np.cumsum([bucket.sample_count for bucket in lengths]) / sum(bucket.sample_count for bucket in lengths), "o-", ms=4, color=GREEN)
axes[1].set_title("length of history: share of Examples up to it", fontsize=10), axes[1].set_ylim(0, 1.02)
ranks = item.string_stats.rank_histogram.buckets
axes[2].plot([bucket.low_rank + 1 for bucket in ranks], [bucket.sample_count for bucket in ranks], color=AMBER), axes[2].set_xscale("log"), axes[2].set_yscale("log")
axes[2].set_title(f"item_id: {item.string_stats.unique:,} values, by rank", fontsize=10)
plt.show()

# %%
schema = tfdv.load_schema_text(str(next(pathlib.Path(outputs["InteractionsSchema/schema"]).glob("*.pbtxt"))))
tfdv.display_schema(schema)

# %% [markdown]
# What would it stop? The same Examples with a rating of 9,000 in one and no item in another. The missing item
# is an anomaly; the rating is none, for the schema has no bounds for it: ratings of any scale are taken.

# %%
sample = [example for _, example in zip(range(200), examples("TablesExampleGen/interactions", "train"))]
sample[0].features.feature["label"].float_list.value[:] = [9000.0]
sample[1].features.feature["item_id"].bytes_list.value[:] = []
damaged = work / "damaged.tfrecord"
with tf.io.TFRecordWriter(str(damaged)) as writer:
    [writer.write(example.SerializeToString()) for example in sample]
found = tfdv.validate_statistics(tfdv.generate_statistics_from_tfrecord(str(damaged)), schema)
tfdv.display_anomalies(found)

# %% [markdown]
# **Transform** learns vocabularies and ranges from the training split and keeps them as a graph that is part
# of the served model. Items are tokenised here, once an item.

# %%
run_to("ItemsTransform")

# %%
transformed = tft.TFTransformOutput(outputs["ItemsTransform/transform_graph"])
film = next(examples("ItemsTransform/transformed_examples", "all"))
raw = next(examples("TablesExampleGen/items", "all"))
pd.DataFrame({"before": plain(raw), "after": plain(film)}).fillna("")

# %% [markdown]
# **Texts become vectors**, one an item, kept by a digest of tokens and encoder: the next run encodes only
# what is new. **Training** of both models: what went on in each epoch.

# %%
run_to("RankingTrainer" if list(needs).index("RankingTrainer") > list(needs).index("RetrievalTrainer") else "RetrievalTrainer")

# %%
axes = plt.subplots(1, 4, figsize=(12, 2.8))[1]
for place, (title, metric) in enumerate((("Retrieval", "val_ndcg_10"), ("Ranking", "val_auc_click"))):
    history = json.loads(pathlib.Path(outputs[f"{title}Trainer/model_run"], "history.json").read_text())
    metric = metric if metric in history else next(name for name in history if name.startswith("val_") and name != "val_loss")
    for ax, names in ((axes[2 * place], ("loss", "val_loss")), (axes[2 * place + 1], (metric,))):
        for name, colour in zip(names, (BLUE, AMBER) if len(names) > 1 else (GREEN,)):
            ax.plot(np.arange(1, len(history[name]) + 1), history[name], "o-", ms=3, color=colour, label=name)
        ax.set_title(f"{title}: {' and '.join(names)}", fontsize=10), ax.set_xlabel("epoch")
    axes[2 * place].legend(fontsize=8)
plt.show()

# %% [markdown]
# **Evaluation (TFMA)** ranks the whole catalogue for each person of the test split, beside baselines fitted
# in the same run. A model is blessed if it beats popularity significantly and is no worse than the others:
# overall, and in no slice below the last blessed model. Here a few people and a few epochs are not enough, so
# that nothing is pushed, and the reason is given; with all people the README's run is blessed.
#
# `tfma.load_eval_result` reads the results as any of TFMA's, and `tfma.view.render_slicing_metrics(result)`
# gives its own viewer: a widget for Colab and the classic notebook (`nbclassic`), drawn with Google Charts
# from the network. JupyterLab and Notebook 7 have no front end for it; the picture below and `tfrec report`
# stand in its place.

# %%
run_to(list(needs)[-1]).tail(10)

# %%
validation = tfma.load_validation_result(outputs["RetrievalEvaluator/evaluation"])
from pipeline.evaluation.verdict import judge

verdict = judge(outputs["RetrievalEvaluator/evaluation"])
print("blessed:", validation.validation_ok)
print("\n".join(verdict["reasons"]))

# %%
result = tfma.load_eval_result(outputs["RetrievalEvaluator/evaluation"])
overall = dict(result.slicing_metrics)[()][""][""]
names = ("ndcg@10", "popularity_ndcg@10", "als_ndcg@10", "content_knn_ndcg@10", "recall@100", "coverage@10", "gini@10", "novelty@10", "diversity@10")
pd.DataFrame({"overall": {name: round(overall[name]["doubleValue"], 4) for name in names if name in overall}})

# %%
figures = verdict["metrics"]
chosen = [name for name in figures if figures[name].get("users", 0) >= 10 and "ndcg@10_low" in figures[name] or name == "overall"]
chosen = sorted(chosen, key=lambda name: (name != "overall", name))[:16]
ax = plt.subplots(figsize=(9, 0.8 + 0.28 * len(chosen)))[1]
for place, name in enumerate(chosen):
    found = figures[name]
    ax.plot([found.get("ndcg@10_low", found["ndcg@10"]), found.get("ndcg@10_high", found["ndcg@10"])], [place, place], color=BLUE, lw=2.5, solid_capstyle="round")
    ax.plot(found["ndcg@10"], place, "o", color=BLUE, label="this model" if not place else None)
    ax.plot(found.get("popularity_ndcg@10", np.nan), place, "D", color=AMBER, ms=5, label="popularity" if not place else None)
ax.set_yticks(range(len(chosen)), [f"{name} ({figures[name].get('users', 0):.0f} users)" for name in chosen], fontsize=8), ax.invert_yaxis()
ax.set_xlabel("NDCG@10, with the interval of a bootstrap over people"), ax.grid(axis="x", lw=0.3), ax.set_xlim(left=0), ax.legend()
plt.show()

# %% [markdown]
# **Once more.** Inputs, parameters and code are the same, so nothing runs again; a change runs what depends
# on it, and no more.

# %%
nodes, steps = Nodes(create_pipeline(config)), []
again = run_to(list(needs)[-1])
print(again.state.value_counts().to_dict(), f"in {again.seconds.sum():.0f} s")

# %% [markdown]
# **Lineage.** Where did it come from? ML Metadata knows each execution, what it read and what it wrote. From
# the last artifact of the retrieval model upwards (the pusher recorded one that says that nothing was
# pushed), components in colour and artifacts in grey:

# %%
from ml_metadata.proto import metadata_store_pb2
from pipeline.report.lineage import open_store, upstream

store = open_store(config)
model = outputs["RetrievalTrainer/model"]
made_by = upstream(store, outputs["RetrievalPusher/pushed_model"])
component = {details["execution"]: name for name, details in made_by.items()}
type_name = {kind.id: kind.name for kind in store.get_artifact_types()}
artifacts, lineage = {}, collections.defaultdict(list)
for event in store.get_events_by_execution_ids(list(component)):
    (artifact,) = store.get_artifacts_by_id([event.artifact_id])
    artifacts[f"#{artifact.id}"] = type_name[artifact.type_id]
    if event.type == event.OUTPUT:
        lineage[f"#{artifact.id}"].append(component[event.execution_id])
    elif event.type == event.INPUT:
        lineage[component[event.execution_id]].append(f"#{artifact.id}")
pushed = next(f"#{artifact.id}" for artifact in store.get_artifacts_by_uri(outputs["RetrievalPusher/pushed_model"]))

def ordered(lineage, last):
    """What `last` came from, in an order in which everything follows what it needs."""
    found = {}
    def visit(name):
        if name not in found:
            for other in lineage.get(name, ()):
                visit(other)
            found[name] = [*dict.fromkeys(lineage.get(name, ()))]
    visit(last)
    return found

family = ordered(lineage, pushed)
draw(family, lambda name: GREY if name.startswith("#") else kind(name), lambda name: f"{artifacts[name]}\n{name}" if name.startswith("#") else words(name), size=(16, 6), fontsize=7)

# %% [markdown]
# Each execution also holds what it was told, and a digest of the code that ran. Two models can so be told
# apart by what made them.

# %%
def shorten(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 90 else text[:87] + "…"

told = made_by["RetrievalTrainer"]
settings = told["custom_config"] if isinstance(told["custom_config"], dict) else json.loads(told["custom_config"])
pd.DataFrame({"the retrieval trainer was told": {name: shorten(settings[name]) for name in ("model", "text", "history_length", "index", "code")}})
