"""A catalogue that changed after training, served by the model that was trained before: against NumPy and the
old one."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.models.planted_models import catalogue, ranking, two_tower
from tests.planted_serving import ids, known_history, matrix, no_wishes, recommend, serving_arguments
from tfrec_fusion.export import base as export
from tfrec_fusion.export import retrieval as export_retrieval
from tfrec_fusion.export.evaluated import NOT_RANKED
from tfrec_fusion.export.recommender import RecommenderSignatures
from tfrec_fusion.index import BruteForce
from tfrec_fusion.models.catalogue import Catalogue
from tfrec_fusion.models.new_items import ranking_vectors, renewed, retrieval_vectors

pytestmark = pytest.mark.slow

TEXT = "space robot"
GONE, CHANGED = 2, 5  # rows of the old catalogue


def now(items, vector):
    """The catalogue as it is offered now, in another order: item GONE left, CHANGED says TEXT, one says TEXT
    and is new."""
    rows = np.array([0, *(row for row in range(len(items) - 1, 0, -1) if row != GONE)])
    texts = items.text_vectors.copy()
    texts[CHANGED] = vector
    return Catalogue(
        ids=np.array([*items.ids[rows], "new"]),
        titles=np.array([*items.titles[rows], "A new one"]),
        features={"genre": np.append(items.features["genre"][rows], 2).astype(np.int32)},
        text_vectors=np.concatenate([texts[rows], [vector]]),
        counts=np.zeros(len(rows) + 1, np.int64),
    )


@dataclasses.dataclass
class Both:
    model: object
    ranker: object
    catalogue: Catalogue
    before: object
    after: object
    recommender: object
    vector: np.ndarray  # of TEXT as an item
    asked: np.ndarray  # of TEXT as a request


@pytest.fixture(scope="module")
def both(data, profiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("renewed")
    model, ranker, known = two_tower(data), ranking(data), catalogue(data)
    known = dataclasses.replace(known, names={"genre": np.array(["", "one", "two", "three"], object)})
    arguments = serving_arguments(data, profiles)
    vector = arguments[4].items(tf.constant([TEXT])).numpy()[0]
    new = renewed(known, now(known, vector))
    # Profiles speak of items by row, and rows are others now.
    rows = {item: row for row, item in enumerate(new.ids)}
    moved = np.array([rows.get(item, 0) for item in known.ids], np.int32)
    people = dataclasses.replace(
        profiles, history_items=moved[profiles.history_items], seen_items=moved[profiles.seen_items]
    )

    def served(name, kind, items, people, **options):
        index = BruteForce().index(export_retrieval.searchable(model, items)[1 : items.offered + 1])
        export.save(kind(model, items, people, *arguments[2:], index=index, **options), str(folder / name))
        return tf.saved_model.load(str(folder / name))

    return Both(
        model,
        ranker,
        new,
        served("before", export_retrieval.RetrievalSignatures, known, profiles),
        served("after", export_retrieval.RetrievalSignatures, new, people),
        served(
            "recommender", RecommenderSignatures, new, people, ranking=ranker, head="rating", rank_weight=0.3
        ),
        vector,
        arguments[4].queries(tf.constant([TEXT])).numpy()[0],
    )


def scores(answer):
    return dict(zip(ids(answer), answer["scores"].numpy()[0].tolist(), strict=True))


def test_what_did_not_change_scores_as_before(both, data, profiles):
    # Whoever met the item that says something else now asks for something else, too.
    asking = [row for row in data.test["user_index"] if CHANGED not in known_history(profiles, row)][:6]
    assert any(GONE in known_history(profiles, row) for row in asking)
    for user in profiles.ids[asking]:
        old = scores(recommend(both.before, user=user, k=99, include_seen=True))
        new = scores(recommend(both.after, user=user, k=99, include_seen=True))
        assert set(new) == set(old) - {data.ids[GONE]} | {"new"}
        for item in set(old) & set(new) - {data.ids[CHANGED]}:
            assert new[item] == pytest.approx(old[item], abs=1e-6)
        assert abs(new[data.ids[CHANGED]] - old[data.ids[CHANGED]]) > 1e-4


def test_the_vectors_of_what_did_not_change_are_the_models_own(both, data):
    known, vectors = both.model.candidate_embeddings().numpy(), retrieval_vectors(both.model, both.catalogue)
    same = (both.catalogue.model_index > 0) & (both.catalogue.ids != data.ids[CHANGED])
    np.testing.assert_array_equal(vectors[same], known[both.catalogue.model_index[same]])
    features = {"genre": tf.constant([2]), "text_vector": tf.constant(both.vector[None])}
    row = list(both.catalogue.ids).index("new")
    np.testing.assert_allclose(
        vectors[row], both.model.candidate_from_features(features)[0], rtol=1e-5, atol=1e-6
    )
    with_id = {**features, "item_index": tf.constant([CHANGED])}
    with_id["genre"] = tf.constant(data.genre[CHANGED : CHANGED + 1])
    row = list(both.catalogue.ids).index(data.ids[CHANGED])
    np.testing.assert_allclose(
        vectors[row], both.model.candidate_from_features(with_id)[0], rtol=1e-5, atol=1e-6
    )


def test_a_new_item_is_found_by_words_and_stands_where_its_vector_puts_it(both, data, profiles):
    by_text = both.catalogue.text_vectors[: both.catalogue.offered + 1] @ both.asked
    expected = [both.catalogue.ids[row] for row in np.argsort(-by_text, kind="stable") if row]
    answer = recommend(both.after, text=TEXT, k=99)
    place = {item: number for number, item in enumerate(ids(answer))}
    assert abs(place["new"] - place[data.ids[CHANGED]]) == 1  # they say the same
    assert scores(answer)["new"] == pytest.approx(
        float(by_text[list(both.catalogue.ids).index("new")]), rel=1e-5
    )
    assert set(ids(answer)) == set(expected)
    assert answer["titles"].numpy()[0][place["new"]] == b"A new one"
    vectors = retrieval_vectors(both.model, both.catalogue)[1 : both.catalogue.offered + 1]
    for row in range(4):
        user = profiles.ids[data.test["user_index"][row]]
        query = both.after.signatures["embed_query"](
            user_id=tf.constant([user]), history=matrix(), text=tf.constant([""])
        )["embedding"].numpy()[0, : vectors.shape[1]]
        order = both.catalogue.ids[1 : both.catalogue.offered + 1][np.argsort(-(vectors @ query))]
        found = ids(recommend(both.after, user=user, k=99, include_seen=True))
        assert found.index("new") == list(order).index("new")


def test_a_new_item_counts_in_a_history(both, data):
    answer = recommend(both.after, history=["new", str(data.ids[1])], k=99)
    assert "new" not in ids(answer)
    alone = recommend(both.after, history=[str(data.ids[1])], k=99)
    assert scores(answer)[data.ids[3]] != scores(alone)[data.ids[3]]


@pytest.mark.parametrize("model", ["after", "recommender"])
def test_what_is_gone_never_comes_but_is_remembered(both, data, model):
    gone, loaded = str(data.ids[GONE]), getattr(both, model)
    extra = {}
    if model == "recommender":
        extra = {"candidates": tf.constant(0), "rank_weight": tf.constant(0.0)}

    def ask(**given):
        inputs = {
            "user_id": tf.constant([""]),
            "history": matrix(),
            "text": tf.constant([""]),
            "k": tf.constant(99),
            "exclude": matrix(),
            "include_seen": tf.constant(True),
            "allow": matrix(),
            "categories": matrix(),
            "probes": tf.constant(0),
            **no_wishes(),
            **extra,
            **given,
        }
        return loaded.signatures["recommend"](**inputs)

    for given in (
        {},
        {"allow": matrix(gone, "new")},
        {"exclude": matrix(gone)},
        {"categories": matrix("circle 1", "circle 2", "circle 3", "one", "two", "three")},
        {"diversity": tf.constant(0.5)},
        {"history": matrix(gone)},
    ):
        found = ids(ask(**given))
        assert gone not in found
        assert len([item for item in found if item]) == (1 if "allow" in given else both.catalogue.offered)
    if model == "after":
        kept = scores(ask(history=matrix(gone)))
        before = scores(recommend(both.before, history=[gone], k=99))
        for item in set(kept) & set(before) - {data.ids[CHANGED]}:
            assert kept[item] == pytest.approx(before[item], abs=1e-6)


def test_the_ranking_knows_new_items_by_what_they_say(both, data):
    answer = both.recommender.signatures["rank"](
        user_id=tf.constant([""]), history=matrix(), item_ids=matrix("new", str(data.ids[1])), texts=matrix()
    )
    features = {"genre": tf.constant([2]), "text_vector": tf.constant(both.vector[None])}
    blank = {"user_index": tf.zeros([1], tf.int32), "history": tf.zeros([1, 4], tf.int32)}
    expected = both.ranker.score_features({**blank, **features})
    known = both.ranker({**blank, "item_index": tf.constant([1])})
    for name in ("rating", "click"):
        np.testing.assert_allclose(answer[name][0], [expected[name][0], known[name][0]], rtol=1e-4, atol=1e-5)
    vectors = ranking_vectors(both.ranker, both.catalogue)
    np.testing.assert_array_equal(
        vectors[list(both.catalogue.ids).index(data.ids[1])], both.ranker.catalogue_vectors().numpy()[1]
    )


def test_the_figures_of_evaluation_are_of_what_is_offered(both, data, profiles):
    def example(item):
        features = {"user_id": profiles.ids[1], "item_id": item}
        features = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[str(value).encode()]))
            for name, value in features.items()
        }
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    asked = tf.constant([example("new"), example(data.ids[GONE])])
    answer = both.after.signatures["serving_default"](examples=asked)
    assert 1 <= answer["rank"][0] <= both.catalogue.offered
    assert answer["rank"][1] == NOT_RANKED
    assert answer["catalogue_size"].numpy().tolist() == [both.catalogue.offered] * 2
    assert answer["top"].numpy().max() <= both.catalogue.offered


def test_what_cannot_be_is_refused(data):
    known = catalogue(data)
    items = now(known, known.text_vectors[1])
    with pytest.raises(ValueError, match="listed once. Received: 'new' 2 times"):
        renewed(known, dataclasses.replace(items, ids=np.array([*items.ids[:-2], "new", "new"])))
    with pytest.raises(ValueError, match="text vectors.*Received: None"):
        renewed(known, dataclasses.replace(items, text_vectors=None))
    with pytest.raises(ValueError, match="none named 'genre'"):
        renewed(known, dataclasses.replace(items, features={}))
    with pytest.raises(ValueError, match="must be 4 wide.*Received: 3"):
        renewed(known, dataclasses.replace(items, text_vectors=items.text_vectors[:, :3]))


def test_lists_of_categories_may_be_longer_or_shorter_than_before():
    def items(*categories):
        rows = np.array([[0] * len(categories[0]), *categories], np.int32)
        names = np.array([""] + [f"i{number}" for number in range(1, len(rows))])
        return Catalogue(names, names, {"tags": rows}, None, np.arange(len(rows)))

    longer = renewed(items([1, 2], [3, 0]), items([1, 2, 3]))
    np.testing.assert_array_equal(longer.features["tags"], [[0, 0, 0], [1, 2, 3], [3, 0, 0]])
    np.testing.assert_array_equal(longer.model_index, [0, 1, 2])
    assert (longer.offered, len(longer)) == (1, 3)
    np.testing.assert_array_equal(longer.counts, [0, 1, 2])
    shorter = renewed(items([1, 2], [3, 0]), items([4]))
    np.testing.assert_array_equal(shorter.features["tags"], [[0, 0], [4, 0], [3, 0]])
