"""Checks of the items' texts against the encoder: whether it is here, whether it knows their words, whether
they say anything."""

from __future__ import annotations

import os
import pathlib
import re
import unicodedata
import warnings
from collections.abc import Generator, Iterable, Iterator

import pandas as pd

from pipeline.config.findings import Finding
from pipeline.config.pipeline_config import PipelineConfig
from pipeline.onboarding.measuring import Entities
from tfrec_fusion.config import ConfigError, TextConfig
from tfrec_fusion.config.pretrained import check_start
from tfrec_fusion.datasets.tables import Items
from tfrec_fusion.guessing.value_shapes import tell_apart
from tfrec_fusion.layers.backbones.families import plain_config
from tfrec_fusion.layers.backbones.weight_files import read_tensors
from tfrec_fusion.layers.pretrained import (
    PACKAGED,
    SHORT_NAMES,
    PretrainedNotFoundError,
    find_pretrained,
    read_config,
    reading,
)
from tfrec_fusion.layers.sentence_modules import read_sentence_modules
from tfrec_fusion.layers.tokenizers.builtin import SUBWORDS
from tfrec_fusion.layers.tokenizers.token_files import read_files
from tfrec_fusion.layers.tokenizers.wordpiece_files import read_vocabulary, read_wordpiece

SAMPLE = 2000
UNKNOWN_WRONG, UNKNOWN_NOTE = 0.3, 0.05  # shares of tokens
SPLIT_NOTE = 4.0  # tokens a word: hardly more than its letters
# Of titles in English, and of names of artists and brands, more words are whole in the default vocabulary; of
# other languages in Latin letters at most 0.4.
WHOLE_WORDS = 0.45
# Thai, Lao, Burmese, Khmer, kana, ideographs.
UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def check_text(table: Items, items: Entities, config: PipelineConfig) -> Iterator[Finding]:
    """The text of the items, and the encoder where it is a folder here or a package."""
    if config.text is None:
        alone = " and by their pictures and sounds" if table.media_columns else " alone"
        yield Finding("note" if table.text else "ok", "text", f"off; items are known by their choices{alone}")
        return
    if table.generated and not table.text:
        yield Finding("ok", "text", f"generated texts alone ({table.generated.column!r})")
        return
    if not table.text:
        yield Finding(
            "wrong",
            "text",
            "`data.items.text` names no column. Name some, or turn the text tower off: `text: none`.",
        )
        return
    texts = joined_texts(table, items)
    if table.distinct:
        texts = texts.groupby(items.row_ids.to_numpy()).first()
    yield from _length(texts, config)
    yield from _variety(texts, table)
    folder = yield from _encoder(config.text.encoder, config.text.pooling)
    if folder is not None:
        yield from _unknown_tokens(texts, folder, config)


def check_enrichment(config: PipelineConfig) -> Iterator[Finding]:
    """Whether there is a key for the language model, and what it is told of users."""
    if config.enrich is None:
        return
    endpoint = config.enrich.endpoint
    if endpoint.key_variable and not os.environ.get(endpoint.key_variable, "").strip():
        text = f"the environment variable {endpoint.key_variable} holds no key for {endpoint.base_url}"
        yield Finding("wrong", "enrich", text, "Set it.")
    elif config.enrich.users:
        text = f"users' histories, without ids, are sent to {endpoint.base_url} (`enrich.users`)"
        yield Finding("note", "enrich", text)
    else:
        yield Finding("ok", "enrich", f"{endpoint.model} at {endpoint.base_url} is told of items alone")


def check_warm_start(config: PipelineConfig) -> Iterator[Finding]:
    """Whether the retrieval model can start from the folder that it names."""
    try:
        found = check_start(config.retrieval, config.text, config.split.history_length)
    except ConfigError as error:
        yield Finding("wrong", "retrieval.warm_start", str(error))
        return
    if found is not None:
        yield Finding("ok", "retrieval.warm_start", found.words)


def joined_texts(table: Items, items: Entities) -> pd.Series:
    """The text of each item in one, None where it has none."""
    parts = [items.texts(column).fillna("").astype(str) for column in table.text]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + " " + part
    joined = joined.str.strip()
    return joined.where(joined != "", None)


def _length(texts: pd.Series, config: PipelineConfig) -> Iterator[Finding]:
    assert config.text
    filled = float(texts.notna().mean())
    words = count_words(texts.dropna().head(50_000))
    cut = float((words * 1.4 > config.text.max_length).mean()) if len(words) else 0.0
    few = filled < config.transform.min_text_share
    yield Finding(
        "wrong" if few else "note" if filled < 0.5 or cut > 0.5 else "ok",
        "text",
        f"{filled:.0%} of the items have some; about {cut:.0%} are longer than `text.max_length`"
        f" {config.text.max_length} tokens",
    )


def _variety(texts: pd.Series, table: Items) -> Iterator[Finding]:
    """Texts that hardly tell items apart: a flag taken for a title, one phrase everywhere."""
    distinct = texts.dropna().drop_duplicates()
    items = int(texts.notna().sum())
    columns = ", ".join(map(repr, table.text))
    if items < 2 or not len(distinct):
        return
    shown = ", ".join(repr(text[:40]) for text in distinct[:3])
    if not tell_apart(len(distinct), items):
        yield Finding(
            "wrong",
            "text",
            f"{items:,} items have only {len(distinct)} different {'text' if len(distinct) == 1 else 'texts'}"
            f" ({shown}): {columns} cannot tell items apart. Name other columns in `data.items.text`, or turn"
            " the text tower off: `text: none`.",
        )
    elif len(distinct) < 0.5 * items:
        yield Finding(
            "note", "text", f"{items:,} items share {len(distinct):,} different texts; the others read alike"
        )


def _encoder(name: str, pooling: str | None) -> Generator[Finding, None, pathlib.Path | None]:
    """Whether the encoder is here, whole, and used as its folder says; returns its folder. One that would
    have to be downloaded is not."""
    if name == SUBWORDS:
        yield Finding("ok", "encoder", "subwords: hashed n-grams of any language, without files")
        return None
    here = SHORT_NAMES.get(name, name) in PACKAGED or pathlib.Path(name).expanduser().is_dir()
    if not here:
        yield Finding(
            "note",
            "encoder",
            f"{name} is no folder here: the run takes it from the Hugging Face Hub or its cache",
        )
        return None
    try:
        folder = find_pretrained(name)
        own = read_sentence_modules(folder).pooling
        fault = encoder_fault(folder)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if not fault:
                _check_tokenizer(folder)
    except (PretrainedNotFoundError, ValueError) as error:
        yield Finding("wrong", "encoder", str(error))
        return None
    if fault:
        yield Finding("wrong", "encoder", f"{name}: {fault}")
        return None
    for warning in said:
        if str(warning.message).startswith("A tokenizer"):  # not of lengths, of which `_length` tells
            yield Finding("note", "encoder", f"{name}: {warning.message}")
    if None not in (pooling, own) and pooling != own:
        text = (
            f"`text.pooling` is {pooling!r}, while the encoder was trained with {own!r}. Leave it out to take"
            " its own"
        )
        yield Finding("note", "encoder", f"{name}: {text}")
    else:
        yield Finding("ok", "encoder", f"{name}, {pooling or own or 'mean'} pooling")
    return folder


def encoder_fault(folder: pathlib.Path) -> str:
    """What a folder lacks to be an encoder, or ""."""
    try:
        plain_config(read_config(folder))
        read_tensors(folder)
    except ValueError as error:
        return str(error)
    if not has_tokenizer(folder):
        return "the folder holds no tokenizer's files. Write them with `tokenizer.save_pretrained(folder)`."
    return ""


def _check_tokenizer(folder: pathlib.Path) -> None:
    """Whether the tokenizer can run in the graph.

    Raises:
        ValueError: where it cannot; says why.
    """
    with reading("A tokenizer's files", folder):
        files = read_files(folder)
        if files.is_wordpiece:
            read_wordpiece(files)
            return
    # Imported here: WordPiece is checked without TensorFlow.
    from tfrec_fusion.layers.tokenizers.loading import load_tokenizer

    load_tokenizer(folder)


def has_tokenizer(folder: pathlib.Path) -> bool:
    """Whether the folder holds files of a tokenizer."""
    return any(
        (folder / name).is_file()
        for name in ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
    )


def tokenize(folder: pathlib.Path, texts: list[str]) -> tuple[int, int]:
    """How many tokens the folder's tokenizer makes of texts, and how many of them are the unknown one."""
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    files = read_files(folder)
    if files.whole:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif files.is_wordpiece:
        lowercase = bool(files.settings.get("do_lower_case", True))
        tokenizer = BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase)
    else:
        from tfrec_fusion.layers.tokenizers.loading import load_tokenizer

        layer = load_tokenizer(folder)
        ids = layer.tokenize(texts).flat_values.numpy()
        # Byte-level vocabularies know everything.
        unknown = layer.model.get("unk_id")
        return len(ids), 0 if unknown is None else int((ids == unknown).sum())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    unknown = {
        "[UNK]",
        "<unk>",
        files.special.get("unk_token"),
        files.whole.get("model", {}).get("unk_token"),
    }
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    tokens = [token for row in encoded for token in row.tokens]
    ids = {tokenizer.token_to_id(token) for token in unknown if token}
    place = files.whole.get("model", {}).get("unk_id")
    ids = (ids if place is None else {*ids, place}) - {None}
    return len(tokens), sum(token in ids for row in encoded for token in row.ids)


def count_words(texts: pd.Series) -> pd.Series:
    """Words of each text; of scripts that are written without spaces, two letters count as one."""
    return texts.str.replace(UNSPACED.pattern, " ", regex=True).str.count(r"\S+") + (
        texts.str.count(UNSPACED.pattern) / 2
    )


def measure_tokens(texts: pd.Series, folder: pathlib.Path) -> tuple[float, float] | None:
    """Share of tokens that are unknown, and tokens a word, in a sample of texts; None where it cannot be
    told."""
    sample = texts.dropna()
    sample = sample[:: max(1, len(sample) // SAMPLE)][:SAMPLE].tolist()
    if not sample or not has_tokenizer(folder):
        return None
    tokens, unknown = tokenize(folder, sample)
    words = float(count_words(pd.Series(sample)).sum())
    return unknown / max(1, tokens), tokens / max(1, words)


def whole_words(texts: Iterable[str]) -> float | None:
    """The share of the words of three letters and more that the default encoder's vocabulary holds whole;
    None where there are no words, or no such encoder here."""
    try:
        folder = find_pretrained(TextConfig().encoder, weights=False)
    except PretrainedNotFoundError:
        return None
    vocabulary = set(read_vocabulary(folder / "vocab.txt"))
    found = whole = 0
    for text in texts:
        letters = unicodedata.normalize("NFD", text.lower())
        plain = "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")
        words = re.findall(r"[^\W\d_]{3,}", plain)
        found, whole = found + len(words), whole + sum(word in vocabulary for word in words)
    return whole / found if found else None


def _unknown_tokens(texts: pd.Series, folder: pathlib.Path, config: PipelineConfig) -> Iterator[Finding]:
    assert config.text
    measured = measure_tokens(texts, folder)
    if measured is None:
        return
    unknown, pieces = measured
    advice = "Take an encoder for the language of the texts: `text.encoder: subwords` reads any without files"
    if unknown >= UNKNOWN_NOTE:
        yield Finding(
            "wrong" if unknown >= UNKNOWN_WRONG else "note",
            "encoder",
            f"{unknown:.1%} of the texts' tokens are unknown to {config.text.encoder}: it cannot read them."
            f" {advice}.",
        )
        return
    share = whole_words(texts.dropna().head(SAMPLE)) if config.text.encoder == TextConfig().encoder else None
    if share is not None and share < WHOLE_WORDS:
        yield Finding(
            "note",
            "encoder",
            f"{config.text.encoder} was made for English, and its vocabulary holds only {share:.0%} of the"
            f" texts' words. {advice}.",
        )
    elif pieces >= SPLIT_NOTE:
        yield Finding(
            "note",
            "encoder",
            f"{config.text.encoder} cuts each word into {pieces:.1f} pieces, hardly more than its letters: it"
            f" was made for other texts. {advice}.",
        )
