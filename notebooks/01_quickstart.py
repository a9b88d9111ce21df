# %% [markdown]
# # Tables to recommendations in ten cells
#
# MovieLens 100K: who rated which film, when; and what the films are. `Recommender` learns from both, and answers four
# questions: what does this user watch next, what is like these words, what is like this film, and how would somebody
# rate it?

# %%
import os, tempfile
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from tfrec_fusion import Recommender
from tfrec_fusion.datasets import movielens_100k

SMALL = os.environ.get("TFREC_NOTEBOOK_SMALL") == "1"
plt.rcParams.update({"figure.figsize": (9, 3.2), "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# **1. The tables.** DataFrames here; Arrow tables and paths of CSV, JSON or Parquet files do as well.

# %%
tables = movielens_100k(None, tempfile.mkdtemp())
ratings, films = pd.read_parquet(tables.interactions.path), pd.read_parquet(tables.items.path)
if SMALL:
    ratings = ratings[ratings.user_id.astype(int) <= 100]
ratings.head(3)

# %%
films.head(3)

# %% [markdown]
# Few films have most of the ratings. Of the rest, choices alone tell little; their texts tell something.

# %%
counts = ratings.item_id.value_counts().to_numpy()
plt.fill_between(np.arange(len(counts)), counts, color="tab:blue", alpha=0.7)
plt.xlabel("films, most rated first"), plt.ylabel("ratings")
half = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
plt.axvline(half, color="black", lw=1), plt.text(half + 15, counts[0] * 0.8, f"{half} films have half of the ratings")
plt.show()

# %% [markdown]
# **2. Fit.** Columns are guessed, and the first line says what each was taken for. Ratings are divided by time: the first 80 % train
# the models, the next 10 % stop them early, and the last 10 % are kept to judge by. A few epochs will do here; without
# `epochs`, training stops when it gets no better.

# %%
model = Recommender(seed=1, epochs=1 if SMALL else 4).fit(ratings, films)

# %% [markdown]
# **3. Is it any good?** Every film is ranked for everybody, the ones already seen left out; and ratings are predicted.

# %%
figures = model.evaluate()
pd.Series({name: figures[name] for name in ("ndcg@10", "recall@100", "rmse", "mae", "auc", "users")}).round(3).to_frame("held out")

# %% [markdown]
# **4. What does somebody watch next?** The scores order one user's films, and say nothing beyond that.

# %%
seen = ratings[ratings.user_id == "42"].sort_values("timestamp").merge(films, on="item_id").title[::-1].head(6)
pd.DataFrame({"watched last": seen.to_list(), "recommended": model.recommend("42", k=6).title})

# %% [markdown]
# Somebody new says what they liked, in films or in words.

# %%
star_wars, alien = (films.item_id[films.title == title].iloc[0] for title in ("Star Wars", "Alien"))
model.recommend(history=[star_wars, alien], text="something funny", k=5)

# %% [markdown]
# **5. What is like these words?** No title has to hold them: the encoder knows what they mean.

# %%
words = ["a space adventure with robots", "romance in Paris", "sharks", "the Wild West"]
model.search(words, k=6).pivot(index="rank", columns="text", values="title")[words]

# %% [markdown]
# **6. What is like this film?** By who chooses them, and by their texts.

# %%
pd.DataFrame({title: model.similar(films.item_id[films.title == title].iloc[0], k=5).title for title in ("Alien", "Star Wars", "Pulp Fiction")})

# %% [markdown]
# **7. How would they rate it?** The ranking model, on films that the user rated, and on one that is in no table.

# %%
own = ratings[ratings.user_id == "42"]
found = model.rank("42", own.item_id, label="rating").merge(own, on="item_id")
given = sorted(found.rating.unique())
plt.boxplot([found.score[found.rating == stars] for stars in given])
plt.xticks(range(1, len(given) + 1), [f"{stars:.0f}" for stars in given]), plt.xlabel("stars that user 42 gave"), plt.ylabel("predicted")
plt.show()
model.rank("42", texts=["A lonely robot falls in love in space", "A courtroom drama about a divorce"], label="rating")

# %% [markdown]
# **8. Keep it, and serve it.** `export` writes the SavedModel that a run of the pipeline pushes; TF Serving loads it.

# %%
folder = tempfile.mkdtemp()
model.save(f"{folder}/kept")
again = Recommender.load(f"{folder}/kept")
again.export(f"{folder}/models/films/1")
print(again.recommend("42", k=6).equals(model.recommend("42", k=6)), sorted(os.listdir(f"{folder}/models/films/1")))

# %% [markdown]
# **Next.** `tfrec run movielens_100k` trains the same models in a TFX pipeline, judges them and pushes what is good
# enough; `tfrec serve movielens_100k` answers over REST and gRPC.
