# %% [markdown]
# # The loop: serve, log, learn again, and say which version is better
#
# A recommender is not one training run. This notebook plays a whole turn on MovieLens 100K, with users who
# are simulated: a version is served and explores a little, what is shown and clicked is logged, the data are
# watched, a second version learns from what came since, an experiment says which of the two is better, and
# the earlier one is served again. Everything is what `tfrec serve`, `feedback`, `drift`, `experiment` and
# `rollback` do, called from Python. The simulator knows the truth, so each figure can be held against it.

# %%
import dataclasses, logging, os, pathlib, shutil, tempfile, time
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from benchmarks.loop import Clicks, impressions, visit
from tfrec_fusion import Recommender
from tfrec_fusion.datasets.movielens import movielens_100k
from tfrec_fusion.experiments import Arm, Experiment, Exploration, Reading, compare, read_outcomes, readout, snips
from tfrec_fusion.impressions import ImpressionLogConfig
from tfrec_fusion.serving import Client, EmbeddedServer, ModelConfig, VersionPolicy

logging.getLogger("tensorflow").setLevel("ERROR")
SMALL = os.environ.get("TFREC_NOTEBOOK_SMALL") == "1"
BLUE, AMBER, GREEN, GREY = "#3b82f6", "#f59e0b", "#10b981", "#9aa3af"
plt.rcParams.update({"figure.figsize": (9, 3.0), "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True, "legend.frameon": False})
work = pathlib.Path(tempfile.mkdtemp())
tables = movielens_100k(None, str(work))
items = pd.read_parquet(tables.items.path)[["item_id", "title"]]
ratings = pd.read_parquet(tables.interactions.path).sort_values("timestamp", kind="stable")
clicks = Clicks(ratings)
half = len(ratings) // 2
early, later = ratings.iloc[:half], ratings.iloc[half:]
users = list(early.user_id.drop_duplicates()[-(40 if SMALL else 220) :])
visits = 2 if SMALL else 4
print(f"{len(early):,} ratings are the beginning; {len(users)} users visit {visits} times in each act")

# %% [markdown]
# **The first version** learns from the first half. Both versions are small and train for one epoch: what is
# shown here is the way, not how well they recommend.

# %%
settings = dict(text=None, ranking=None, epochs=1, seed=0, verbose=0, retrieval={"tower": {"dim": 32, "history_encoder": "mean"}, "collaborative_dim": 64, "training": {"refit": False}})
base = work / "models" / "films"

def learn(table, version):
    model = Recommender(**settings).fit(table, items)
    model.export(base / str(version))
    print(f"version {version}: {len(table):,} interactions")
    return model

first = learn(early[["user_id", "item_id", "rating", "timestamp"]], 1)

# %% [markdown]
# **Serve, log and click.** The server logs each list with the probability of each item at its position, and
# explores: items that were shown seldom come up more often, at a bounded cost in score. The users click by a
# known model, in which lower positions are seen less. They may be shown what they chose before
# (`include_seen`), as songs and groceries are: the simulator's users never have enough of anything.

# %%
with EmbeddedServer({"films": base}, impressions=ImpressionLogConfig(str(work / "log")), exploration=Exploration(max_cost=0.1)) as server, Client.connect(f"http://127.0.0.1:{server.rest_port}", "films") as client:
    chosen, expected = visit(client, clicks, users, visits, include_seen=True)
table = impressions(work / "log", work / "impressions")
truth = np.mean([np.mean(values) for values in expected.values()])
print(f"{len(table):,} impressions, {table.click.mean():.2%} clicked; the simulator expected {truth:.2%}")
table[["request_id", "user", "item", "position", "propensity", "click"]].head(4)

# %%
fig, (left, right) = plt.subplots(1, 2)
by = table.groupby("position").click.agg(["mean", "count"])
error = 1.96 * np.sqrt(by["mean"] * (1 - by["mean"]) / by["count"])
left.errorbar(by.index, by["mean"], error, fmt="o", color=BLUE, capsize=2, label="clicked, with 95 %")
seen = np.arange(1, 11) ** -0.5
left.plot(by.index, truth / seen.mean() * seen[by.index - 1], color=GREY, label="how positions are seen")
left.set(xlabel="position", ylabel="click rate", ylim=(0, None)), left.legend()
right.hist(table.propensity[table.position == 1], bins=np.linspace(0, 1, 21), color=AMBER)
right.set(xlabel="probability of the item at the first position", ylabel="lists")
plt.show()

# %% [markdown]
# Positions are seen as the simulator says: whoever learns from clicks must know where an item stood, which is
# why `position` is in the log. On the right, with which probability the item at the first position was drawn:
# often it was not what scores highest. That is what exploration costs, and what makes the log worth
# something. **From the log alone:** what would come of always showing first what the model scores highest?

# %%
first_position = table[table.position == 1]
greedy = (first_position.score >= table.groupby("request_id").score.transform("max")[first_position.index]).to_numpy(float)
estimate = snips(first_position.click.to_numpy(), first_position.propensity.to_numpy(), greedy, units=first_position.user.to_numpy())
print(f"first position as it was: {first_position.click.mean():.4f}; without exploration: {estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]")

# %% [markdown]
# **Did the data move?** The later half of the ratings, in periods of equal length, against what the first
# version was trained on: shares of new users and films, distances of what is chosen, and how well the first
# version still ranks it. Most of MovieLens' users rate all they rate within a day, so nearly all choices are
# by new ones. This is what `tfrec drift` prints, and what `tfrec watch` may be told to act upon.

# %%
from tfrec_fusion.in_memory.drift import measure
from tfrec_fusion.in_memory.updating import base_of

fitted = first._fitted()
ratings[["user_id", "item_id", "rating", "timestamp"]].to_parquet(work / "ratings.parquet")
known = fitted.known.tables
now = dataclasses.replace(
    known,
    interactions=dataclasses.replace(known.interactions, path=str(work / "ratings.parquet")),
    items=dataclasses.replace(known.items, path=tables.items.path),
)
moved = measure(base_of(fitted, int(early.timestamp.iloc[-1]) * 10**9), now, first.config, periods=5, max_judged=2000 if SMALL else 10_000)
frame = pd.DataFrame([dataclasses.asdict(one) for one in moved.periods])
frame.index = pd.to_datetime(frame.start, unit="s").dt.strftime("%d %b")
fig, axes = plt.subplots(1, 3, figsize=(11, 2.8))
frame[["new_users", "new_items"]].plot.bar(ax=axes[0], color=[BLUE, AMBER], rot=0, ylim=(0, 1.35)), axes[0].set_title("share of choices by new users, of new films", fontsize=9)
pd.DataFrame(list(frame.distances), index=frame.index).plot(ax=axes[1], marker="o", color=[GREEN, AMBER, BLUE, GREY]), axes[1].set_title("distance from before", fontsize=9), axes[1].set_ylim(0, None)
axes[2].errorbar(range(len(frame)), frame.ndcg, [frame.ndcg - frame.ndcg_low, frame.ndcg_high - frame.ndcg], fmt="o-", color=BLUE, capsize=3), axes[2].set_xticks(range(len(frame)), frame.index), axes[2].set_ylim(0, None), axes[2].set_title("NDCG@10 of the first version, with 95 %", fontsize=9)
[axis.set_xlabel("") for axis in axes]
plt.show()

# %% [markdown]
# **Learn again** from all ratings and from what was clicked. (`tfrec update` would let the served model learn
# on instead, and compare both on the newest window before it pushes.) Both versions are then served beside
# each other, and each user's arm is a hash of the id.

# %%
clicked = pd.DataFrame(chosen, columns=["user_id", "item_id"]).drop_duplicates()
clicked = clicked.assign(rating=5.0, timestamp=ratings.timestamp.max() + np.arange(len(clicked)) + 1)
second = learn(pd.concat([ratings[["user_id", "item_id", "rating", "timestamp"]], clicked]), 2)
experiment = Experiment("learned", (Arm("first", 0.5, version=1), Arm("again", 0.5, version=2)))
with EmbeddedServer([ModelConfig("films", str(base), VersionPolicy("all"))], impressions=ImpressionLogConfig(str(work / "log2")), experiments=(experiment,)) as server, Client.connect(f"http://127.0.0.1:{server.rest_port}", "films") as client:
    while any(one.state != "AVAILABLE" for one in server.manager.status("films")):
        time.sleep(0.1)
    _, expected = visit(client, clicks, users, visits, include_seen=True)
table = impressions(work / "log2", work / "impressions2")
outcomes = read_outcomes(table, Reading(), experiment.name, ("first", "again"))
result = readout(outcomes, shares=[0.5, 0.5], effect={"click/rows": 0.02})
print(result.results[0].in_words(result))
means = {arm: np.mean([np.mean(values) for user, values in expected.items() if experiment.arm(user).name == arm]) for arm in ("first", "again")}
print(f"the simulator's truth for these users: {means['again'] - means['first']:+.4f}")

# %% [markdown]
# The readout stands beside the truth that only the simulator knows. So few users find large differences alone;
# `tfrec experiment plan` says beforehand how many it takes.
#
# **Looking again and again.** An interval that is made for one look is wrong too often when one looks each
# day and stops as soon as it excludes 0. Always-valid intervals are wider, and hold at all looks at once.
# Below, 3,000 more users in either arm and no difference between them, looked at sixty times:

# %%
from benchmarks.experiments import users as more_users

def looked_at(seed):
    rng = np.random.default_rng(seed)
    (first_clicks, first_shown), _ = more_users(rng, 3000)
    (second_clicks, second_shown), _ = more_users(rng, 3000)
    ends = np.linspace(100, 3000, 60).astype(int)
    ones = [compare((first_clicks[:end], first_shown[:end]), (second_clicks[:end], second_shown[:end]), scale=0.01) for end in ends]
    return pd.DataFrame([(end, one.difference, one.low, one.high, one.always_low, one.always_high) for end, one in zip(ends, ones)], columns=["users", "difference", "low", "high", "always_low", "always_high"], dtype=float)

def excludes_0(looks, kind):
    return ((looks[f"{kind}low"] > 0) | (looks[f"{kind}high"] < 0)).any()

all_looks = [looked_at(seed) for seed in range(10 if SMALL else 40)]
wrong = {kind: np.mean([excludes_0(looks, kind) for looks in all_looks]) for kind in ("", "always_")}
print(f"excludes 0 at some look, of {len(all_looks)} such experiments: made for one look {wrong['']:.0%}, always valid {wrong['always_']:.0%}")
looks = next((looks for looks in all_looks if excludes_0(looks, "")), all_looks[0])
plt.figure(figsize=(8, 3))
plt.fill_between(looks.users, looks.always_low, looks.always_high, color=GREY, alpha=0.3, label="holds at all looks")
plt.fill_between(looks.users, looks.low, looks.high, color=BLUE, alpha=0.3, label="of one look")
plt.plot(looks.users, looks.difference, color=BLUE), plt.axhline(0, color=AMBER, linestyle="--", label="the truth")
plt.xlabel("users in either arm so far"), plt.ylabel("difference of the click rate"), plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# **Roll back.** The earlier version is published again under a new number; a server that runs takes it by
# itself.

# %%
with EmbeddedServer({"films": base}, poll_seconds=0.2) as server:
    before = server.manager.get("films").version
    shutil.copytree(base / "1", base / ".3")
    (base / ".3").rename(base / "3")
    while server.manager.get("films").version == before:
        time.sleep(0.1)
    print(f"version {before} is replaced by {server.manager.get('films').version}, a copy of version 1")

# %% [markdown]
# **Next.** `docs/howto/loop.md` says how to do each step on tables of one's own, from the command line and by
# cron; `docs/howto/experiments.md` how to plan an experiment.
