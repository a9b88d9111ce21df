# %% [markdown]
# # The text tower in a model of your own
#
# You have a Keras model, or want to write one. The layers of `tfrec_fusion` are plain Keras 2 layers: take
# the ones you need. Here a small two-tower model learns from ids and titles, and we look at what its gate
# does with items that nobody chose.

# %%
import logging, os
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").setLevel("ERROR")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tfrec_fusion
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from tfrec_fusion.layers.fusion import GatedFusion, ModalityDropout
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer

SMALL = os.environ.get("TFREC_NOTEBOOK_SMALL") == "1"
logging.getLogger("tensorflow").setLevel("ERROR")
plt.rcParams.update({"figure.figsize": (9, 3.2), "axes.spines.top": False, "axes.spines.right": False})
tf_keras.utils.set_random_seed(1)

# %% [markdown]
# **Data.** Invented books of four subjects; each reader likes one. The last books of each subject are new:
# nobody has chosen them.

# %%
rng = np.random.default_rng(1)
subjects = {
    "gardening": "roses compost orchards greenhouses hedges pruning".split(),
    "sailing": "knots tides rigging yachts harbours anchors".split(),
    "baking": "sourdough pastry croissants cakes yeast tarts".split(),
    "astronomy": "telescopes comets planets galaxies eclipses meteors".split(),
}
forms = ["A short book of", "The story of", "All about", "A guide to"]
titles = np.array([f"{form} {word}" for words in subjects.values() for word in words for form in forms])
subject = np.repeat(np.arange(4), 24)
new = np.arange(96) % 24 >= 20
readers = 240
likes = [rng.choice(np.flatnonzero((subject == reader % 4) & ~new), 8, replace=False) for reader in range(readers)]
pairs = np.array([(reader, item) for reader, items in enumerate(likes) for item in items], np.int32)
print(len(pairs), "choices;", new.sum(), "of", len(titles), "books are new:", ", ".join(titles[new][:2]), "…")

# %% [markdown]
# **Text to vectors.** The tokenizer runs inside the graph, so that a served model takes raw strings. `frozen`
# trains nothing of BERT; `lora` would train a fraction of a percent of it.

# %%
tokenizer = load_tokenizer("all-MiniLM-L6-v2", max_length=16)
frozen = TextEncoder.from_pretrained("all-MiniLM-L6-v2", stage="frozen")
texts = frozen(tokenizer(titles)).numpy()
lora = TextEncoder.from_pretrained("all-MiniLM-L6-v2", stage="lora", lora_rank=4)
lora(tokenizer(titles[:1]))
trained = sum(int(np.prod(weight.shape)) for weight in lora.trainable_weights)
print(f"{texts.shape}; frozen trains {len(frozen.trainable_weights)} weights, LoRA {trained:,} of {lora.count_params():,}")

# %%
unit = texts / np.linalg.norm(texts, axis=1, keepdims=True)
plt.figure(figsize=(4.6, 4))
plt.imshow(unit @ unit.T, cmap="magma"), plt.colorbar(label="similarity of meaning")
plt.xticks(np.arange(12, 96, 24), subjects, fontsize=8), plt.yticks(np.arange(12, 96, 24), subjects, fontsize=8)
plt.show()

# %% [markdown]
# The small bright squares are titles about one thing. Without having seen a single choice BERT also groups
# astronomy, and baking in part; of gardening and sailing it sees little. Choices say the rest.
#
# **The model**, about twenty lines. `ModalityDropout` takes the id away from some books in training, so that
# the model learns to do without it; the gate then weighs id and text, element by element.

# %%
class Books(tfrs.Model):
    def __init__(self, dim=16):
        super().__init__()
        self.reader = tf_keras.layers.Embedding(readers, dim)
        self.book_id = tf_keras.layers.Embedding(len(titles), dim)
        self.text = tf.constant(texts)
        self.dropout = ModalityDropout({"id": 0.3})
        self.fusion = GatedFusion(dim)
        self.task = tfrs.tasks.Retrieval()

    def book(self, items, known=None, training=False, return_gates=False):
        modalities = {"id": self.book_id(items), "text": tf.gather(self.text, items)}
        presence = None if known is None else {"id": known}
        return self.fusion(self.dropout(modalities, presence, training=training), return_gates=return_gates)

    def compute_loss(self, batch, training=False):
        reader, item = batch
        return self.task(self.reader(reader), self.book(item, training=training), candidate_ids=item)

model = Books()
model.compile(optimizer=tf_keras.optimizers.Adam(0.01))
data = tf.data.Dataset.from_tensor_slices((pairs[:, 0], pairs[:, 1])).shuffle(len(pairs), seed=1).batch(128)
history = model.fit(data, epochs=3 if SMALL else 40, verbose=0)
plt.plot(history.history["loss"]), plt.xlabel("epoch"), plt.ylabel("loss")
plt.show()

# %% [markdown]
# **New books find their readers.** A new book's id means nothing, and `presence` says so; its text has to do.
# For each reader we look at how new books of their subject stand among all new books. (The preference was
# planted and titles tell it, so a text can get everything right here. The grey bars differ by luck: there are
# only four tastes.)

# %%
fresh = np.flatnonzero(new)
vectors = {"text, id absent": model.book(fresh, known=tf.zeros(len(fresh), tf.bool)).numpy(),
           "untrained id alone": model.book_id(fresh).numpy()}
queries = model.reader(np.arange(readers)).numpy()
own = subject[fresh][None] == (np.arange(readers) % 4)[:, None]

def first_is_right(items):
    return own[np.arange(readers), np.argmax(queries @ items.T, 1)].mean()

found = {name: first_is_right(items) for name, items in vectors.items()} | {"chance": own.mean()}
bars = plt.barh(list(found), list(found.values()), color=["tab:blue", "lightgray", "lightgray"])
plt.bar_label(bars, fmt="%.2f", padding=3), plt.gca().invert_yaxis()
plt.xlabel("readers whose first new book is of their subject")
plt.show()

# %% [markdown]
# **What the gate does.** How much of each book comes from its text. Taste here is the subject and nothing
# else, which titles tell; so the text has nearly all of the say, of known books too, and the new ones lose
# little.

# %%
known = np.flatnonzero(~new)
gates = {
    "known": model.book(known, return_gates=True)[1]["text"].numpy().mean(1),
    "new": model.book(fresh, known=tf.zeros(len(fresh), tf.bool), return_gates=True)[1]["text"].numpy().mean(1),
}
for name, values in gates.items():
    plt.hist(values, bins=np.linspace(0, 1, 41), density=True, alpha=0.6, label=f"{name} books")
plt.xlabel("share of the text"), plt.legend(), plt.yticks([])
plt.show()

# %% [markdown]
# **Words as a query.** Any text goes through the same tower, as a book without an id.

# %%
def like(words, k=5):
    text = frozen(tokenizer([words]))
    book = model.fusion(model.dropout({"id": tf.zeros([1, 16]), "text": text}, {"id": tf.constant([False])}))
    everything = np.where(new[:, None], model.book(np.arange(96), known=tf.zeros(96, tf.bool)), model.book(np.arange(96)))
    return titles[np.argsort(-(everything @ book.numpy()[0]))[:k]]

pd.DataFrame({words: like(words) for words in ("the sea", "bread", "stars at night")})

# %% [markdown]
# More layers: [the reference](../docs/reference/layers.md). To compare fusions on your own tables:
# `tfrec ablate CONFIG --variants fusion`.
