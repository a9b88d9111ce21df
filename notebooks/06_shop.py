# %% [markdown]
# # A shop: from invoices to recommendations
#
# A year of an online shop's invoices: who bought what, with cancelled orders, postage booked as a product,
# people who are not known, and products described in four words. There are no ratings; a purchase is all that
# anybody says. This notebook cleans the invoices and counts what is left out, trains on purchases, looks at
# products that nobody has bought yet, and makes lists more diverse.
#
# Data: *Online Retail*, UCI Machine Learning Repository (Chen, 2015, https://doi.org/10.24432/C5BW33).
# Download https://archive.ics.uci.edu/static/public/352/online+retail.zip, and put what is inside as
# `online_retail.parquet` (or the `Online Retail.xlsx` itself, for which pandas needs `openpyxl`) into the
# folder that `TFREC_UCI` names.

# %%
import dataclasses, logging, os, pathlib, tempfile
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tfrec_fusion
import tensorflow as tf
from pipeline.config.pipeline_config import DataConfig, PipelineConfig
from tfrec_fusion.config import RetrievalConfig
from tfrec_fusion.datasets import Interactions, Items, Users

logging.getLogger("tensorflow").setLevel("ERROR")
SMALL = os.environ.get("TFREC_NOTEBOOK_SMALL") == "1"
BLUE, AMBER, GREEN, GREY = "#3b82f6", "#f59e0b", "#10b981", "#9aa3af"
plt.rcParams.update({"figure.figsize": (9, 3.2), "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True, "legend.frameon": False})
folder = pathlib.Path(os.environ.get("TFREC_UCI", "../../shared/data/uci-online-retail"))
parquet = folder / "online_retail.parquet"
lines = pd.read_parquet(parquet) if parquet.exists() else pd.read_excel(folder / "Online Retail.xlsx")
lines.head(3)

# %% [markdown]
# **Cleaning.** Each rule leaves out lines, in this order; what is left is who bought which product, when.

# %%
lines["InvoiceNo"], lines["StockCode"] = lines.InvoiceNo.astype(str), lines.StockCode.astype(str).str.upper()
rules = {
    "cancelled invoice (number begins with C)": lambda lines: lines.InvoiceNo.str.startswith("C"),
    "quantity not above 0 (broken, lost, corrected)": lambda lines: lines.Quantity <= 0,
    "no customer": lambda lines: lines.CustomerID.isna(),
    "no product (postage, fees, manual entries)": lambda lines: ~lines.StockCode.str.match(r"\d{5}"),
    "price not above 0 (gifts, samples)": lambda lines: lines.UnitPrice <= 0,
    "the same product on the same invoice again": lambda lines: lines.duplicated(["InvoiceNo", "StockCode"]),
}
clean, left_out = lines, {}
for rule, applies in rules.items():
    bad = applies(clean)
    left_out[rule], clean = int(bad.sum()), clean[~bad]
clean = clean.assign(customer=clean.CustomerID.astype(int).astype(str))
counts = pd.DataFrame({"lines left out": left_out})
counts["share of all"] = (counts["lines left out"] / len(lines)).map("{:.1%}".format)
print(f"{len(lines):,} lines, of which {len(clean):,} stay: {clean.customer.nunique():,} customers, {clean.StockCode.nunique():,} products")
counts

# %%
fig, (ax, months) = plt.subplots(1, 2, width_ratios=[1.2, 1], figsize=(11, 3.2))
start = len(lines)
for place, (rule, count) in enumerate(left_out.items()):
    ax.barh(place, count / 1000, left=(start - count) / 1000, color=AMBER)
    ax.barh(place, (start - count) / 1000, color="#e5e7eb")
    start -= count
ax.barh(len(left_out), start / 1000, color=BLUE)
ax.set_yticks(range(len(left_out) + 1), [*(rule.split(" (")[0] for rule in left_out), "what stays"], fontsize=8), ax.invert_yaxis(), ax.set_xlabel("thousand lines; amber is left out")
monthly = clean.set_index("InvoiceDate").resample("W").size()
months.fill_between(monthly.index, monthly, color=GREEN, alpha=0.7), months.set_ylabel("lines a week"), months.tick_params(axis="x", rotation=30, labelsize=8)
plt.show()

# %% [markdown]
# Without a customer there is nobody to recommend to, so those lines go, a quarter of all; a shop that knows
# its sessions would keep them. `tfrec` does without this cell: `quantity: Quantity` leaves out returns,
# `distinct: true` makes a table of products from invoice lines, and rejects are counted by reason.
#
# **Three tables.** A product is called what it is called most often; its usual price is told too. A purchase
# is a choice, how many pieces is not a rating.

# %%
work = pathlib.Path(tempfile.mkdtemp())
# A third of the customers, so that this takes minutes.
clean = clean[clean.customer.isin(pd.Series(clean.customer.unique()).sample(250 if SMALL else 1500, random_state=1))]
often = lambda values: values.mode().iloc[0]
products = clean.groupby("StockCode").agg(name=("Description", often), price=("UnitPrice", "median")).reset_index()
products["name"] = products.name.str.strip().str.capitalize()
purchases = clean[["customer", "StockCode", "InvoiceDate"]]
customers = clean.groupby("customer").agg(country=("Country", often)).reset_index()
for name, table in (("purchases", purchases), ("products", products), ("customers", customers)):
    table.to_parquet(work / f"{name}.parquet")
config = PipelineConfig(
    "shop",
    DataConfig(
        interactions=Interactions(str(work / "purchases.parquet"), "customer", "StockCode", "InvoiceDate"),
        items=Items(str(work / "products.parquet"), "StockCode", title="name", text=("name",), numbers=("price",)),
        users=Users(str(work / "customers.parquet"), "customer", categories=("country",)),
    ),
    root=str(work / "runs"),
    retrieval=RetrievalConfig(training=dataclasses.replace(RetrievalConfig().training, epochs=1 if SMALL else 5)),
)
products.sample(5, random_state=3)

# %%
from pipeline.studies.ablation import prepared

data = prepared(config)
titles, met = data.catalogue.titles, data.catalogue.counts
print({part: f"{len(getattr(data, part)['item_index']):,}" for part in ("train", "validation", "test")}, f"{(met[1:] == 0).sum():,} products are new in the last weeks")

# %% [markdown]
# **Training** on purchases alone, against everything that was not bought (implicit feedback). The baselines
# take the same purchases: what sells best, and what is bought by those who bought the same (item k-NN).

# %%
import scipy.sparse
from tfrec_fusion.training.batches import batches
from pipeline.studies.offline_figures import figures
from tfrec_fusion.models import ItemKNN, build_two_tower, interaction_matrix
from tfrec_fusion.training.fitting import fit

settings, logs = config.retrieval.training, []
model = build_two_tower(config.retrieval, data.space, data.catalogue)
fit(model, batches(data.train, settings.batch_size, shuffle=settings.seed), batches(data.validation, 1024), settings, progress=logs.append)
items = model.candidate_embeddings().numpy()

def ours(rows):
    return model.query_embeddings({name: tf.constant(column[rows]) for name, column in data.test.items()}).numpy() @ items.T

bought = interaction_matrix(data.train["user_index"], data.train["item_index"], data.space.num_users, data.space.num_items)
neighbours = ItemKNN().fit(bought)
judged = pd.DataFrame({
    "two towers": figures(ours, data, config),
    "item k-NN": figures(lambda rows: neighbours.scores(data.test["user_index"][rows]), data, config),
    "what sells best": figures(lambda rows: np.tile(met.astype("float32"), (len(rows), 1)), data, config),
})
names = [name for name in ("ndcg@10", "recall@100", "cold recall@100", "coverage@10", "diversity@10") if name in judged.index]
axes = plt.subplots(1, len(names), sharey=True, figsize=(11, 1.9))[1]
for ax, name in zip(axes, names):
    ax.bar_label(ax.barh(judged.columns, judged.loc[name], color=[BLUE, GREEN, GREY]), fmt="%.3f", padding=3, fontsize=8)
    ax.set_title(name, fontsize=10), ax.set_xticks([]), ax.margins(x=0.3), ax.spines["bottom"].set_visible(False)
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# After five passes over a third of the customers the model finds more than item k-NN, which knows what goes
# into one basket and nothing else. What nobody bought item k-NN cannot find at all; of that the model has a
# sixth among its hundred. `tfrec run` would show the same, and would not push a retrieval model that is
# significantly worse than its baselines.
#
# What is counted as right is a product that the person had never bought before and buys in the last weeks.
# Shops live from repeated purchases too; those are left out here, since a list of what somebody buys anyway
# is no recommendation.
#
# **Somebody's list.**

# %%
row = int(np.flatnonzero((data.test["history"] > 0).sum(1) > 8)[5 if not SMALL else 0])
def best(row, k=10):
    found = ours(np.array([row]))[0]
    found[[0, *data.seen[row]]] = -np.inf
    return np.argsort(-found)[:k], found

top, values = best(row)
pd.set_option("display.max_colwidth", 60)
pd.DataFrame({"bought last": pd.Series(titles[data.test["history"][row][::-1][:8]]), "recommended": pd.Series(titles[top[:8]])})

# %% [markdown]
# **A product that nobody has bought.** Its name tells where it belongs. On the left what it is called; beside
# it the sold products that the model puts next to it (a lunch bag finds lunch bags; a bicycle clip is like
# nothing in this shop), and how many of the products bought by its later buyers were among its nearest
# hundred.

# %%
sold = np.flatnonzero(met > 0)
fresh = pd.Series(data.test["item_index"])[lambda found: met[found] == 0].value_counts().index[:6].to_numpy()
near = {item: sold[np.argsort(-(items[sold] @ items[item]))] for item in fresh}
buyers = {item: data.test["user_index"][data.test["item_index"] == item] for item in fresh}
share = [np.mean(np.isin(data.train["item_index"][np.isin(data.train["user_index"], buyers[item][buyers[item] > 0])], near[item][:100])) for item in fresh]
pd.DataFrame({"new product": titles[fresh], "next to it": ["; ".join(titles[near[item][:3]]) for item in fresh], "its buyers' earlier purchases among its 100": [f"{found:.0%}" for found in share]}).set_index("new product")

# %% [markdown]
# **In one's own words.** The encoder knows what words mean that no product is called by.

# %%
from tfrec_fusion.layers import TextEncoder, load_tokenizer

tokenizer, encoder = load_tokenizer("all-MiniLM-L6-v2", max_length=32), TextEncoder.from_pretrained("all-MiniLM-L6-v2")
texts = tf.math.l2_normalize(tf.constant(data.catalogue.text_vectors, tf.float32), 1).numpy()

def search(words, k=5):
    query = tf.math.l2_normalize(encoder(tokenizer([words])), 1).numpy()[0]
    return titles[np.argsort(-(texts @ query))[:k]]

pd.DataFrame({words: search(words) for words in ("something for a child's lunch", "to light a dinner table", "keeps hands warm", "a present for a gardener")})

# %% [markdown]
# **Diversity.** Who bought one lunch bag is shown nine more. Maximal marginal relevance picks each product
# for being wanted and for being unlike those picked before; the weight is part of the request. Here it costs
# no accuracy up to 0.6:

# %%
from tfrec_fusion.layers import MaximalMarginalRelevance
from tfrec_fusion.metrics import evaluate, intra_list_diversity, rank_scores
from pipeline.studies.offline_figures import relevant_items

rows, seen, relevant = relevant_items(data)
pool = rank_scores(lambda part: ours(rows[part]), len(rows), len(met), seen, k=100, allowed=np.arange(len(met)) > 0)
scores = np.take_along_axis(np.concatenate([ours(rows[start : start + 512]) for start in range(0, len(rows), 512)]), np.maximum(pool, 0), 1)
rerank = MaximalMarginalRelevance()

def lists(weight):
    order = [rerank(tf.constant(scores[start : start + 512]), tf.gather(texts, np.maximum(pool[start : start + 512], 0)), weight, 10).numpy() for start in range(0, len(rows), 512)]
    return np.take_along_axis(pool, np.concatenate(order), 1)

weights = (0, 0.3, 0.6) if SMALL else (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
curve = pd.DataFrame([(weight, evaluate(lists(weight), relevant, (10,))["ndcg@10"], intra_list_diversity(lists(weight), texts)) for weight in weights], columns=["weight", "ndcg", "diversity"])
plt.figure(figsize=(6, 3.2))
plt.plot(curve.diversity, curve.ndcg, "o-", color=BLUE)
[plt.annotate(f"{point.weight:g}", (point.diversity, point.ndcg), xytext=(4, 5), textcoords="offset points", fontsize=8) for point in curve.itertuples()]
plt.xlabel("unlikeness within a list of ten (mean 1 − cosine of names)"), plt.ylabel("NDCG@10"), plt.ylim(0, 1.15 * curve.ndcg.max()), plt.margins(x=0.1)
plt.show()

# %%
plain, mixed = lists(0.0), lists(0.4)
sameness = 1 - np.array([intra_list_diversity(plain[[place]], texts) for place in range(len(rows))])
narrow = int(np.argmax(sameness))
pd.DataFrame({"by score alone": titles[plain[narrow]], "with a diversity of 0.4": titles[mixed[narrow]]})

# %% [markdown]
# **Next.** `tfrec init` on a folder with the invoices writes a configuration that does the cleaning;
# `tfrec run` trains, judges and serves it.
