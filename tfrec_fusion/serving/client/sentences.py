"""Explanations in words: one table of templates, a language each.

Another language is another entry of `SENTENCES` with the same keys. A page or a client in another programming
language can read the table as JSON. `{…}` are filled in, titles and names as they are: what shows a sentence
as HTML escapes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tfrec_fusion.export.request import RequestError


class Explained(Protocol):
    """What a sentence is made of: an `Explanation`."""

    @property
    def state(self) -> str: ...
    @property
    def sources(self) -> tuple[Any, ...]: ...
    @property
    def base(self) -> dict[str, float]: ...
    @property
    def others(self) -> dict[str, float]: ...
    @property
    def last_id(self) -> str: ...
    @property
    def last_title(self) -> str: ...
    @property
    def gap(self) -> float: ...
    @property
    def behind(self) -> list[tuple[str, float]]: ...


TITLES, WORDS = 2, 3
"""How many items of a history and how many words a sentence names at most."""
LEAST = 0.05
"""The smallest share of what speaks for an item that is worth a phrase."""

SENTENCES: dict[str, dict[str, str]] = {
    "en": {
        "title": "“{title}”",
        "and": "{first} and {last}",
        "history": "because of {titles} ({share} %)",
        "words": "words: {words}",
        "text": "fits what was asked for ({share} %)",
        "popularity": "popular with everybody ({share} %)",
        "user": "fits the user ({share} %)",
        "feature": "{names} ({share} %)",
        "item": "liked by itself ({share} %)",
        "item_text": "by its text ({share} %)",
        "general": "fits most users ({share} %)",
        "nothing": "nothing speaks for it",
        "outscored": "not recommended: {gap} behind {last}, most of it by {part}",
        "unknown": "not recommended: it is in no catalogue",
        "not_offered": "not recommended: it is not offered any more",
        "excluded": "not recommended: the request excludes it",
        "history_holds": "not recommended: it is in the history",
        "seen": "not recommended: the user has chosen it before",
        "not_allowed": "not recommended: the request allows other items alone",
        "category": "not recommended: it is in none of the categories asked for",
        "not_retrieved": "not recommended: not among the candidates that the retrieval hands on",
        "missed": "not recommended: the index did not look where it is; ask for more probes",
    },
    "de": {
        "title": "„{title}“",
        "and": "{first} und {last}",
        "history": "wegen {titles} ({share} %)",
        "words": "Wörter: {words}",
        "text": "passt zur Anfrage ({share} %)",
        "popularity": "allgemein beliebt ({share} %)",
        "user": "passt zur Person ({share} %)",
        "feature": "{names} ({share} %)",
        "item": "für sich beliebt ({share} %)",
        "item_text": "wegen seines Textes ({share} %)",
        "general": "passt zu den meisten ({share} %)",
        "nothing": "nichts spricht dafür",
        "outscored": "nicht empfohlen: {gap} hinter {last}, vor allem durch {part}",
        "unknown": "nicht empfohlen: in keinem Katalog",
        "not_offered": "nicht empfohlen: nicht mehr im Angebot",
        "excluded": "nicht empfohlen: von der Anfrage ausgeschlossen",
        "history_holds": "nicht empfohlen: steht im Verlauf",
        "seen": "nicht empfohlen: schon gewählt",
        "not_allowed": "nicht empfohlen: die Anfrage lässt nur anderes zu",
        "category": "nicht empfohlen: in keiner der gewünschten Kategorien",
        "not_retrieved": "nicht empfohlen: nicht unter den Kandidaten, die bewertet werden",
        "missed": "nicht empfohlen: der Index hat dort nicht gesucht; mehr `probes` verlangen",
    },
    "fr": {
        "title": "« {title} »",
        "and": "{first} et {last}",
        "history": "à cause de {titles} ({share} %)",
        "words": "mots : {words}",
        "text": "répond à la demande ({share} %)",
        "popularity": "apprécié de tous ({share} %)",
        "user": "convient à cette personne ({share} %)",
        "feature": "{names} ({share} %)",
        "item": "apprécié en soi ({share} %)",
        "item_text": "par son texte ({share} %)",
        "general": "convient à la plupart ({share} %)",
        "nothing": "rien ne parle pour lui",
        "outscored": "non recommandé : {gap} derrière {last}, surtout par {part}",
        "unknown": "non recommandé : dans aucun catalogue",
        "not_offered": "non recommandé : n'est plus proposé",
        "excluded": "non recommandé : exclu par la demande",
        "history_holds": "non recommandé : figure dans l'historique",
        "seen": "non recommandé : déjà choisi",
        "not_allowed": "non recommandé : la demande n'admet que d'autres articles",
        "category": "non recommandé : dans aucune des catégories demandées",
        "not_retrieved": "non recommandé : pas parmi les candidats classés",
        "missed": "non recommandé : l'index n'a pas cherché là ; demander plus de `probes`",
    },
}
"""Templates by language and key."""


def sentence(explanation: Explained, language: str = "en") -> str:
    """Why an item is where it is: for example `because of “Alien” and “Aliens” (62 %); words: robot, space`.

    A share is of all that speaks for the item. An item that is not recommended gets the reason as well.

    Raises:
        RequestError: there are no sentences in that language.
    """
    table = _table(language)
    phrases = [] if explanation.state in ("recommended", "ranked") else [_why_not(explanation, table)]
    whole = sum(value for value in _terms(explanation) if value > 0)
    for value, key, names in sorted(_groups(explanation, table), key=lambda group: -group[0]):
        if value > LEAST * whole:
            phrases.append(_filled(table[key], share=str(round(100 * value / whole)), **names))
    return "; ".join(phrases) or table["nothing"]


def _groups(explanation: Explained, table: Mapping[str, str]) -> list[tuple[float, str, dict[str, str]]]:
    """What speaks for an item: how much, the template that says so, and the names in it."""

    def of(*kinds: str) -> list[Any]:
        return [one for one in explanation.sources if one.kind in kinds and one.value > 0]

    def total(sources: list[Any]) -> float:
        return sum(source.value for source in sources)

    def base(*parts: str) -> float:
        return sum(explanation.base.get(part, 0.0) for part in parts)

    history, words = of("history")[:TITLES], of("word")[:WORDS]
    titles = [_filled(table["title"], title=source.title or source.name) for source in history]
    features = of("feature", "item_feature")[:1]
    terms = [
        (total(history), "history", {"titles": _joined(titles, table)}),
        (total(words), "words", {"words": ", ".join(source.name for source in words)}),
        (total(features), "feature", {"names": "".join(source.name for source in features)}),
        (total(of("item_text")), "item_text", {}),
        (base("popularity"), "popularity", {}),
        (base("text"), "text", {}),
        (base("tower", "network", "ranking_network"), "general", {}),
    ]
    for kind in ("user", "item"):
        terms.append((total(of(kind)) + base(kind, f"ranking_{kind}"), kind, {}))
    return terms


def _terms(explanation: Explained) -> list[float]:
    """All that a score is a sum of; not the scale that it is put on."""
    scales = ("scale", "start", "ranking_start", "range", "ranking_range")
    bases = [value for part, value in explanation.base.items() if part not in scales]
    return [*(source.value for source in explanation.sources), sum(explanation.others.values()), *bases]


def _why_not(explanation: Explained, table: Mapping[str, str]) -> str:
    if explanation.state != "outscored":
        return table["history_holds" if explanation.state == "history" else explanation.state]
    last = _filled(table["title"], title=explanation.last_title or explanation.last_id)
    part = explanation.behind[0][0] if explanation.behind else ""
    return _filled(table["outscored"], gap=f"{explanation.gap:.3f}", last=last, part=part)


def _joined(names: Sequence[str], table: Mapping[str, str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return _filled(table["and"], first=", ".join(names[:-1]), last=names[-1])


def _filled(template: str, **values: str) -> str:
    """The template with its `{…}` filled in, in one go: a title may hold braces of its own."""
    return re.sub(r"\{(\w+)\}", lambda name: values[name[1]], template)


def _table(language: str) -> Mapping[str, str]:
    if language not in SENTENCES:
        raise RequestError(
            f"`language` must be one of {', '.join(SENTENCES)}. Received: {language!r}. Another is another"
            " entry of `tfrec_fusion.serving.client.sentences.SENTENCES`."
        )
    return SENTENCES[language]
