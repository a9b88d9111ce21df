# %% [markdown]
# # Tables to recommendations in ten cells
#
# MovieLens 100K: who rated which film, when; and what the films are. The model learns from both, and answers
# three questions: what does this person watch next, what is like these words, and what is like this film?

# %%
import dataclasses, os, tempfile
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.manifold import TSNE
from pipeline.config.pipeline_config import load_config, tables_of

SMALL = os.environ.get("TFREC_NOTEBOOK_SMALL") == "1"
plt.rcParams.update({"figure.figsize": (9, 3.2), "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# **1. The tables.** A configuration says which column is what. For tables of your own,
# `tfrec init my_tables/` writes one.

# %%
config = load_config("movielens_100k", [f"root={tempfile.mkdtemp()}", f"retrieval.training.epochs={1 if SMALL else 12}"])
tables = tables_of(config)
pd.read_parquet(tables.interactions.path).head(3)

# %%
films = pd.read_parquet(tables.items.path)
films.head(3)

# %% [markdown]
# **2. Split by time, and read the texts.** Each person's last film is kept for the test, the one before for
# validation. Titles and genres go through BERT once a film.

# %%
from pipeline.studies.ablation import prepared

data = prepared(config)
titles, counts = data.catalogue.titles, data.catalogue.counts
print({part: len(getattr(data, part)["item_index"]) for part in ("train", "validation", "test")}, data.catalogue.text_vectors.shape)

# %% [markdown]
# Few films have most of the ratings. Of the rest, choices alone tell little; their texts tell something.

# %%
ranked = np.sort(counts[1:])[::-1]
plt.fill_between(np.arange(len(ranked)), ranked, color="tab:blue", alpha=0.7)
plt.xlabel("films, most rated first"), plt.ylabel("ratings in training")
half = int(np.searchsorted(np.cumsum(ranked), ranked.sum() / 2))
plt.axvline(half, color="black", lw=1), plt.text(half + 15, ranked[0] * 0.8, f"{half} films have half of the ratings")
plt.show()

# %% [markdown]
# **3. Train.** Two towers: what a person watched, and what a film is (its id, features and text, weighed by a
# gate).

# %%
from pipeline.studies.ablation import batches
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.training.fitting import fit

settings, losses = config.retrieval.training, []
model = build_two_tower(config.retrieval, data.space, data.catalogue)
train = batches(data.train, settings.batch_size, shuffle=settings.seed)
fit(model, train, batches(data.validation, 1024), settings, progress=losses.append)
found = pd.DataFrame(losses).set_index("epoch")
axes = plt.subplots(1, 2)[1]
found[["loss", "val_loss"]].plot(ax=axes[0], marker="o"), found[["val_ndcg_10"]].plot(ax=axes[1], marker="o", color="tab:green")
plt.show()

# %% [markdown]
# **4. Is it any good?** Every film is ranked for everybody, the ones already seen left out, and compared with
# the most popular.

# %%
import tensorflow as tf
from pipeline.studies.offline_figures import figures

items = model.candidate_embeddings().numpy()

def scores(rows):
    return model.query_embeddings({name: tf.constant(column[rows]) for name, column in data.test.items()}).numpy() @ items.T

ours = figures(scores, data, config)
popular = figures(lambda rows: np.tile(counts.astype("float32"), (len(rows), 1)), data, config)
names = [name for name in ("ndcg@10", "recall@100", "coverage@10", "diversity@10") if name in ours]
table = pd.DataFrame({"fused model": ours, "popularity": popular}).loc[names]
ax = table.plot.barh(color=["tab:blue", "lightgray"])
ax.invert_yaxis(), [ax.bar_label(bars, fmt="%.3f", padding=3) for bars in ax.containers]
plt.show()

# %% [markdown]
# **5. What does somebody watch next?**

# %%
row = int(np.flatnonzero(data.test["history"][:, -6] > 0)[3])
top = np.argsort(-np.where(np.isin(np.arange(len(items)), [0, *data.seen[row]]), -np.inf, scores([row])[0]))[:8]
pd.DataFrame({"watched last": titles[data.test["history"][row][:-9:-1]], "recommended": titles[top]})

# %% [markdown]
# **6. What is like these words?** No title has to hold them: the encoder knows what they mean.

# %%
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer

tokenizer, encoder = load_tokenizer("all-MiniLM-L6-v2", max_length=32), TextEncoder.from_pretrained("all-MiniLM-L6-v2")
texts = tf.math.l2_normalize(tf.constant(data.catalogue.text_vectors, tf.float32), 1).numpy()

def search(words, k=6):
    query = tf.math.l2_normalize(encoder(tokenizer([words])), 1).numpy()[0]
    return titles[np.argsort(-(texts @ query))[:k]]

pd.DataFrame({words: search(words) for words in ("a space adventure with robots", "romance in Paris", "sharks", "the Wild West")})

# %% [markdown]
# **7. A map of films.** What the model learned, in two dimensions: films that the same people watch stand
# together.

# %%
often = np.argsort(-counts)[:400]
place = TSNE(metric="cosine", perplexity=20, random_state=0).fit_transform(items[often])
genres = films.set_index(films.item_id.astype(str)).genres
fig, ax = plt.subplots(figsize=(11, 8))
ax.scatter(*place.T, s=12, color="lightgray")
for genre, colour in (("Children", "tab:green"), ("Horror", "tab:red"), ("Sci-Fi", "tab:blue"), ("Romance", "tab:pink")):
    is_one = np.array([genre in str(genres.get(item)) for item in data.catalogue.ids[often]])
    ax.scatter(*place[is_one].T, s=24, color=colour, label=genre)
named, room = [], np.ptp(place, axis=0) * (0.17, 0.025)
for point in range(200):  # the most rated first, each where no other name stands
    if all((np.abs(place[point] - place[other]) > room).any() for other in named):
        named.append(point), ax.annotate(titles[often[point]], place[point], (3, 3), textcoords="offset points", fontsize=8)
ax.legend(loc="lower left", frameon=False), ax.set_axis_off()
plt.show()

# %% [markdown]
# **Next.** `tfrec run movielens_100k` does all of this in a TFX pipeline, judges the models and pushes what
# is good enough; `tfrec serve movielens_100k` answers over REST and gRPC.
