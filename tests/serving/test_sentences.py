"""Explanations as clients read them, and their sentences."""

import dataclasses
import string

import pytest

from tfrec_fusion.export.request import RequestError
from tfrec_fusion.serving import Client, InProcessTransport
from tfrec_fusion.serving.client.explanations import Source, read_explanations
from tfrec_fusion.serving.client.sentences import SENTENCES


def outputs(**changes):
    """One row of two items, with the parts `tower` and `popularity`."""
    answer = {
        "item_ids": [["1", b"2"]],
        "titles": [["Aliens 3", "Jaws"]],
        "scores": [[1.0, 0.2]],
        "part_names": ["tower", "popularity"],
        "parts": [[[0.9, 0.1], [0.2, 0.0]]],
        "base": [[[0.05, 0.1], [0.2, 0.0]]],
        "others": [[[0.0, 0.0], [0.0, 0.0]]],
        "completeness_error": [[[0.01, 0.0], [0.0, 0.0]]],
        "source_kinds": [[["history", "history", "word"], ["", "", ""]]],
        "sources": [[["7", "8", "robot"], ["", "", ""]]],
        "source_titles": [[["Alien", "Aliens", ""], ["", "", ""]]],
        "contributions": [[[[0.4, 0.0], [0.24, 0.0], [0.2, 0.0]], [[0.0, 0.0]] * 3]],
        "states": [["recommended", "outscored"]],
        "ranks": [[1, 0]],
        "last_id": ["9"],
        "last_title": ["Up"],
        "last_parts": [[0.5, 0.3]],
        "known_user": [True],
        "unknown_items": [["", "77", "77"]],
    }
    return {**answer, **changes}


def test_an_answer_is_read():
    (answer,) = read_explanations(outputs(), ["42"])
    first, second = answer
    assert (answer.known_user, answer.unknown_items) == (True, ("77",))
    assert (first.item_id, first.rank, second.item_id, second.rank) == ("1", 1, "2", None)
    assert first.sources[0] == Source("history", "7", "Alien", {"tower": 0.4, "popularity": 0.0})
    assert second.sources == ()
    for part, value in first.parts.items():
        sources = sum(source.parts[part] for source in first.sources)
        rest = first.base[part] + first.others[part] + first.completeness_error[part]
        assert sources + rest == pytest.approx(value)
    assert second.gap == pytest.approx(0.6)
    assert second.behind == [("tower", pytest.approx(0.3)), ("popularity", pytest.approx(0.3))]
    assert read_explanations(outputs(), None)[0].known_user is None


def test_sentences():
    """0.4 and 0.24 of 0.99 that speak for the item; the tower's base is what fits most users."""
    (answer,) = read_explanations(outputs(), ["42"])
    assert answer[0].sentence() == (
        "because of “Alien” and “Aliens” (65 %); words: robot; popular with everybody (10 %);"
        " fits most users (5 %)"
    )
    assert answer[0].sentence("de").startswith("wegen „Alien“ und „Aliens“ (65 %); Wörter: robot;")
    assert answer[1].sentence().startswith("not recommended: 0.600 behind “Up”, most of it by tower; fits")
    bare = dataclasses.replace(answer[0], sources=(), base={}, others={})
    assert bare.sentence() == "nothing speaks for it"


def test_titles_stay_what_they_are():
    """A title may look like a place of the template."""
    titles = [[["{share} {titles} <b>", "", ""], ["", "", ""]]]
    (answer,) = read_explanations(outputs(source_titles=titles), None)
    assert "because of “{share} {titles} <b>” and “8” (65 %)" in answer[0].sentence()


def test_every_language_has_every_sentence():
    def fields(table):
        parsed = {key: string.Formatter().parse(text) for key, text in table.items()}
        return {key: sorted(name for _, name, *_ in found if name) for key, found in parsed.items()}

    for table in SENTENCES.values():
        assert fields(table) == fields(SENTENCES["en"])


@pytest.mark.parametrize("state", ["unknown", "not_offered", "excluded", "history", "seen", "not_allowed"])
def test_every_reason_has_a_sentence(state):
    (answer,) = read_explanations(outputs(states=[["recommended", state]]), None)
    for language in SENTENCES:
        reason = "history_holds" if state == "history" else state
        assert answer[1].sentence(language).startswith(SENTENCES[language][reason])


def test_an_unknown_language_is_refused():
    (answer,) = read_explanations(outputs(), None)
    with pytest.raises(RequestError, match=r"`language` must be one of en, de, fr\. Received: 'tlh'"):
        answer[0].sentence("tlh")


def test_the_ranking_alone_says_no_ranks():
    ranking = {name: value for name, value in outputs().items() if not name.startswith(("last_", "ranks"))}
    (answer,) = read_explanations({**ranking, "states": [["ranked", "ranked"]]}, None)
    assert [one.rank for one in answer] == [None, None] and "because of" in answer[0].sentence()


def test_a_model_of_before_is_told(models):
    """The stand-in has no `explain`, as models that were pushed before there was one."""
    client = Client(InProcessTransport(str(models / "recommender" / "1")))
    with pytest.raises(RequestError, match="has no signature 'explain'.*older version.*`tfrec run` pushes"):
        client.explain("42", "7")
    with pytest.raises(RequestError, match="has no signature 'similar'.*older version"):
        client.similar("7")
