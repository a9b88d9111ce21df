# %% [markdown]
# # Serving: REST, gRPC, free text, and a new version without a gap
#
# What is served is a plain SavedModel: raw ids and words go in, ids and titles come out. Here one is made
# from a few invented books in seconds, served by the server that comes with the project, which speaks TF
# Serving's protocol, and replaced by a second version while somebody keeps asking. In the pipeline,
# `tfrec run` and `tfrec serve` do all of this.

# %%
import dataclasses, json, logging, os, pathlib, shutil, tempfile, threading, time, urllib.request
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
logging.getLogger("tensorflow").setLevel("ERROR")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tfrec_fusion
import tensorflow as tf
from tfrec_fusion import config
from tfrec_fusion.export import base as export
from tfrec_fusion.export import retrieval as export_retrieval
from tfrec_fusion.index import BruteForce
from tfrec_fusion.layers.text_encoder import TextEncoder
from tfrec_fusion.layers.tokenizers.loading import load_tokenizer
from tfrec_fusion.models.build import build_two_tower
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.user_profiles import Profiles
from tfrec_fusion.training.fitting import fit

SMALL = os.environ.get("TFREC_NOTEBOOK_SMALL") == "1"
logging.getLogger("tensorflow").setLevel("ERROR")

# %% [markdown]
# **Books and readers.** Each reader likes one subject.

# %%
rng = np.random.default_rng(1)
subjects = {
    "gardening": ["roses", "compost", "orchards", "greenhouses", "hedges"],
    "sailing": ["knots", "tides", "rigging", "yachts", "storms at sea"],
    "baking": ["sourdough", "pastry", "rye bread", "croissants", "cakes"],
    "astronomy": ["telescopes", "comets", "planets", "galaxies", "eclipses"],
}
forms = ["A short book of", "The story of", "All about", "A guide to"]
titles = np.array(["", *(f"{form} {word}" for words in subjects.values() for word in words for form in forms)], object)
subject = np.repeat(np.arange(4), 20)
readers, history_length = 200, 6
reads = np.array([rng.choice(np.flatnonzero(subject == reader % 4) + 1, history_length + 1, replace=False) for reader in range(readers)])
train = {"user_index": np.arange(1, readers + 1, dtype=np.int32), "history": reads[:, :-1].astype(np.int32), "item_index": reads[:, -1].astype(np.int32)}
pd.DataFrame(titles[reads[:4]]).iloc[:, :4]

# %% [markdown]
# **A model.** Titles go through BERT once; a two-tower model learns from them and from what was read.

# %%
tokenizer, encoder = load_tokenizer("all-MiniLM-L6-v2", max_length=16), TextEncoder.from_pretrained("all-MiniLM-L6-v2")
vectors = np.concatenate([np.zeros((1, 384), np.float32), encoder(tokenizer(list(titles[1:]))).numpy()])
catalogue = Catalogue(
    ids=np.array(["", *(f"B{place:02d}" for place in range(1, 81))], object),
    titles=titles, features={}, text_vectors=vectors, counts=np.bincount(reads.ravel(), minlength=81),
)
space = config.FeatureSpace(num_users=readers + 1, num_items=81, text_dim=384, history_length=history_length)
settings = config.RetrievalConfig(training=config.TrainingConfig(epochs=2 if SMALL else 10, batch_size=32, learning_rate=3e-3))
model = build_two_tower(settings, space, catalogue)
history = fit(model, tf.data.Dataset.from_tensor_slices(train).batch(32), None, settings.training, progress=False)
print(history.epochs, "epochs")

# %% [markdown]
# **A SavedModel** with the tokenizer, BERT, the index, what readers read, and the titles inside; version 1.

# %%
class ReaderIndices(tf.Module):
    """What Transform's graph does in the pipeline: raw features to what the model reads."""

    def __init__(self, ids):
        super().__init__()
        self.rows = export.Lookup(ids)

    def __call__(self, raw):
        return {"user_index": tf.cast(self.rows(raw["user_id"]), tf.int64)}

names = np.array(["", *(f"reader-{number}" for number in range(1, readers + 1))], object)
profiles = Profiles(
    ids=names, features={"user_index": np.arange(readers + 1, dtype=np.int32)},
    history_items=reads[:, 1:].ravel().astype(np.int32),
    history_splits=np.concatenate([[0, 0], np.cumsum([history_length] * readers)]).astype(np.int64),
    history_length=history_length,
    seen_items=reads.ravel().astype(np.int32),
    seen_splits=np.concatenate([[0, 0], np.cumsum([reads.shape[1]] * readers)]).astype(np.int64),
)
raw = {"user_id": tf.io.FixedLenFeature([], tf.string), "item_id": tf.io.FixedLenFeature([], tf.string),
       "history": tf.io.VarLenFeature(tf.string), "seen": tf.io.VarLenFeature(tf.string)}

def write(version):
    index = BruteForce().index(export_retrieval.searchable(model, catalogue)[1:])
    tower = export.TextTower(tokenizer, encoder, encoder.dim)
    serving = export_retrieval.RetrievalSignatures(model, catalogue, profiles, (), (), tower, ReaderIndices(names), raw, index=index)
    export.save(serving, f"{base}/{version}")

base = f"{tempfile.mkdtemp()}/retrieval"
write(1)
print(sorted(tf.saved_model.load(f"{base}/1").signatures))

# %% [markdown]
# **A server**, in this process. `tensorflow_model_server` takes the same folder.

# %%
from tfrec_fusion.serving.server.config_file import ModelConfig
from tfrec_fusion.serving.server.embedded import EmbeddedServer

server = EmbeddedServer([ModelConfig("retrieval", base)], rest_port=0, grpc_port=0, poll_seconds=0.2).start()
server.wait_ready(120)
url = f"http://127.0.0.1:{server.rest_port}"
print(urllib.request.urlopen(f"{url}/v1/models/retrieval").read().decode())

# %% [markdown]
# **REST, with nothing but HTTP.** Every input is named; one that is left empty means "not given".

# %%
body = {"signature_name": "recommend", "inputs": {"user_id": ["reader-3"], "text": [""], "history": [[]], "exclude": [[]], "k": 3, "include_seen": False,
        "allow": [[]], "categories": [[]], "probes": 0, "diversity": 0, "diversity_by": "mmr",
        "calibration": 0, "max_per_category": 0, "quotas": [[]], "category_column": ""}}
request = urllib.request.Request(f"{url}/v1/models/retrieval:predict", json.dumps(body).encode())
print(urllib.request.urlopen(request).read().decode())

# %% [markdown]
# **The client.** A known reader; words; both; and somebody unknown, by what they just read.

# %%
from tfrec_fusion.serving import Client

client = Client.connect(url, "retrieval")
questions = {
    "reader-3": {"user_id": "reader-3"},
    "“the night sky”": {"text": "the night sky"},
    "“bread without bought yeast”": {"text": "bread without bought yeast"},
    "reader-3 and “wind and waves”": {"user_id": "reader-3", "text": "wind and waves"},
    "just read B01, B05": {"history": ["B01", "B05"]},
}
pd.DataFrame({name: [found.title for found in client.recommend(**asked, k=4)] for name, asked in questions.items()}).T

# %% [markdown]
# **gRPC** gives the same answers. What takes time is BERT, where words are asked for. (The machine was busy
# with other things; compare within the picture, not with figures elsewhere.)

# %%
grpc = Client.connect(f"grpc://127.0.0.1:{server.grpc_port}", "retrieval")

def milliseconds(ask, **question):
    ask(**question, k=4)
    times = []
    for _ in range(10 if SMALL else 60):
        start = time.perf_counter()
        ask(**question, k=4)
        times.append(1000 * (time.perf_counter() - start))
    return times

by_id, by_words = {"user_id": "reader-3"}, {"text": "the night sky"}
taken = {"REST, reader": milliseconds(client.recommend, **by_id), "gRPC, reader": milliseconds(grpc.recommend, **by_id),
         "REST, words": milliseconds(client.recommend, **by_words), "gRPC, words": milliseconds(grpc.recommend, **by_words)}
assert [found.item_id for found in grpc.recommend(**by_words, k=4)] == [found.item_id for found in client.recommend(**by_words, k=4)]
plt.figure(figsize=(8, 2.6))
plt.boxplot(list(taken.values()), orientation="horizontal", tick_labels=list(taken), showfliers=False)
plt.xlabel("milliseconds"), plt.xlim(left=0)
plt.show()

# %% [markdown]
# **A new version.** Trained further and written beside the first one while somebody keeps asking. The server
# loads it, warms it up, and only then sends requests there; no request fails. Here the server shares its
# process with the training, so answers are slow and uneven meanwhile; `tfrec serve` is a process of its own.

# %%
answered, failed, stop = [], [], threading.Event()

def keep_asking():
    with Client.connect(url, "retrieval") as asking:
        while not stop.is_set():
            start = time.perf_counter()
            try:
                asking.recommend(user_id="reader-3", k=3)
                answered.append((start, 1000 * (time.perf_counter() - start)))
            except Exception as error:
                failed.append(error)
            time.sleep(0.01)

thread = threading.Thread(target=keep_asking)
thread.start()
time.sleep(1)
fit(model, tf.data.Dataset.from_tensor_slices(train).batch(32), None, dataclasses.replace(settings.training, epochs=2), progress=False)
write(2)
end = time.monotonic() + 120
while not any(version["version"] == "2" and version["state"] == "AVAILABLE" for version in client.status()) and time.monotonic() < end:
    time.sleep(0.1)
swapped = time.perf_counter()
time.sleep(1)
stop.set(), thread.join()
print(f"{len(answered)} answers, {len(failed)} failures;", [(version["version"], version["state"]) for version in client.status()])
assert not failed

# %%
moments, took = np.array(answered).T
plt.figure(figsize=(9, 2.8))
plt.plot(moments - moments[0], took, ".", ms=3)
plt.axvline(swapped - moments[0], color="tab:red", lw=1, label="version 2 answers")
plt.yscale("log"), plt.xlabel("seconds"), plt.ylabel("milliseconds"), plt.legend()
plt.show()

# %%
client.close(), grpc.close(), server.stop()
shutil.rmtree(pathlib.Path(base).parent)
