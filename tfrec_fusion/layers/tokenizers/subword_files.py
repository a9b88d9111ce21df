"""Files of a SentencePiece or byte-level tokenizer, read as arguments of `SubwordTokenizer`, or refused."""

from __future__ import annotations

import base64
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tfrec_fusion.layers.pretrained import read_json
from tfrec_fusion.layers.tokenizers import sentencepiece
from tfrec_fusion.layers.tokenizers.token_files import TokenizerFiles
from tfrec_fusion.layers.tokenizers.unsupported import UnsupportedTokenizerError
from tfrec_fusion.layers.tokenizers.wordpiece_files import in_order

_XLMR = ("XLMRobertaTokenizer",)
_CAMEMBERT = ("CamembertTokenizer",)
_ROBERTA = ("RobertaTokenizer", "LongformerTokenizer", "BartTokenizer")
_GPT2 = ("GPT2Tokenizer",)
_QWEN = ("Qwen2Tokenizer",)
_BOS_AND_EOS = ("LlamaTokenizer", "GemmaTokenizer", "CodeLlamaTokenizer")
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def read_subwords(files: TokenizerFiles) -> dict[str, Any]:
    """Reads a folder's tokenizer as arguments of `SubwordTokenizer`: `tokenizer.json` where it is there,
    otherwise the older files.

    Raises:
        ValueError: for files that are not there or not whole, or ask for what there is not here.
    """
    whole, special = files.whole or _older_files(files), files.special
    vocabulary = _vocabulary(whole["model"])
    if files.settings.get("truncation_side", "right") != "right":
        raise UnsupportedTokenizerError(f"truncation_side={files.settings['truncation_side']!r}")
    added = files.added_tokens()
    if not vocabulary:
        raise ValueError(
            f"A tokenizer must have tokens. Received: an empty vocabulary in {str(files.folder)!r}. Download"
            " it again."
        )
    files.check_size(1 + max([*vocabulary.values(), *(token["id"] for token in added)]))
    ids = {**vocabulary, **{content: entry["id"] for content, entry in files.entries.items()}}
    pad = special.get("pad_token") or special.get("eos_token")
    return {
        "model": _plain(whole["model"], vocabulary),
        "normalizer": whole.get("normalizer"),
        "pre_tokenizer": _pre_tokenizer(whole.get("pre_tokenizer"), files.settings),
        **_frame(files, whole.get("post_processor"), ids),
        "padding": ids.get(pad, 0) if pad else 0,
        "added_tokens": added,
    }


def _vocabulary(model: Mapping[str, Any]) -> dict[str, int]:
    if model.get("type") == "Unigram":
        unknown, size = model.get("unk_id"), len(model["vocab"])
        if any(type(entry) is not list or len(entry) != 2 for entry in model["vocab"]):
            raise TypeError("an entry of the vocabulary that is no piece with a score")
        if unknown is not None and not 0 <= unknown < size:
            raise ValueError(
                f"`unk_id` must be the id of a token ({size}). Received: {unknown!r}. Download the tokenizer"
                " again."
            )
        return {entry[0]: place for place, entry in enumerate(model["vocab"])}
    if model.get("type") == "BPE":
        in_order(model["vocab"])  # each id is one, and of one token
        return dict(model["vocab"])
    raise UnsupportedTokenizerError(f"the model {model.get('type')!r}")


def _plain(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """The model as `SubwordTokenizer` takes it."""
    if model["type"] == "Unigram":
        return {name: model.get(name) for name in ("type", "vocab", "unk_id", "byte_fallback")}
    merges = [pair.split(" ") if isinstance(pair, str) else list(pair) for pair in model["merges"]]
    settings = {name: value for name, value in model.items() if name not in ("vocab", "merges") and value}
    return {**settings, "vocab": list(in_order(vocabulary)), "merges": merges}


def _pre_tokenizer(spec: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """transformers lets `add_prefix_space` of tokenizer_config.json count."""
    if spec and spec["type"] == "ByteLevel" and "add_prefix_space" in settings:
        return {**spec, "add_prefix_space": settings["add_prefix_space"]}
    return spec


def _frame(files: TokenizerFiles, post: Mapping[str, Any] | None, ids: Mapping[str, int]) -> dict[str, Any]:
    """Special tokens around fields."""
    if files.kind in _BOS_AND_EOS:  # transformers makes the template anew from two settings
        begin, end = (ids[files.special[role]] for role in ("bos_token", "eos_token"))
        before = [begin] if files.settings.get("add_bos_token", True) else []
        after = [end] if files.settings.get("add_eos_token", False) else []
        return {"before": before, "after": after, "between": after + before, "later_type": 1}
    steps = [post] if post and post["type"] != "Sequence" else (post or {}).get("processors", [])
    steps = [step for step in steps if step["type"] != "ByteLevel"]  # of offsets
    if not steps:
        return {"before": [], "after": [], "between": [], "later_type": 1}
    if len(steps) > 1:
        raise UnsupportedTokenizerError(f"the post-processors {[step['type'] for step in steps]}")
    (step,) = steps
    if step["type"] in ("RobertaProcessing", "BertProcessing"):
        first, last = step["cls"][1], step["sep"][1]
        is_bert = step["type"] == "BertProcessing"
        return {
            "before": [first],
            "after": [last],
            "between": [last] if is_bert else [last, last],
            "later_type": int(is_bert),
        }
    if step["type"] == "TemplateProcessing":
        return _template(step)
    raise UnsupportedTokenizerError(f"the post-processor {step['type']!r}")


def _template(step: Mapping[str, Any]) -> dict[str, Any]:
    def parts(pieces: Sequence[Mapping[str, Any]], fields: int) -> tuple[list[list[int]], list[int]]:
        runs: list[list[int]] = [[]]
        types: list[int] = []
        for piece in pieces:
            if "Sequence" in piece:
                runs.append([])
                types.append(piece["Sequence"]["type_id"])
            else:
                runs[-1] += step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
        if len(runs) != fields + 1:
            raise UnsupportedTokenizerError(f"a template of {len(runs) - 1} sequences")
        return runs, types

    (before, after), _ = parts(step["single"], 1)
    (first, between, last), (type_one, type_two) = parts(step["pair"], 2)
    if (first, last) != (before, after) or type_one:
        raise UnsupportedTokenizerError("a template whose pairs begin or end as single texts do not")
    return {"before": before, "after": after, "between": between, "later_type": type_two}


def _older_files(files: TokenizerFiles) -> dict[str, Any]:
    """What transformers would write as `tokenizer.json`, made from what came before it."""
    folder, kind = files.folder, files.kind
    pair = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    if pair and kind in _QWEN + _GPT2 + _ROBERTA:
        return _byte_level(folder, kind)
    model = folder / "sentencepiece.bpe.model"
    if model.is_file() and kind in _XLMR + _CAMEMBERT:
        return _unigram(model, _xlmr_pieces if kind in _XLMR else _camembert_pieces)
    raise ValueError(
        "A tokenizer needs `tokenizer.json`, or the older files of BERT, GPT-2, RoBERTa, Qwen2, XLM-R or"
        " CamemBERT."
        f" Received: {kind!r} with {sorted(path.name for path in folder.iterdir())} in {str(folder)!r}. Write"
        " one: `AutoTokenizer.from_pretrained(folder).save_pretrained(folder)`."
    )


def _byte_level(folder: pathlib.Path, kind: str) -> dict[str, Any]:
    vocabulary = read_json(folder, "vocab.json")
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    whole: dict[str, Any] = {"model": {"type": "BPE", "vocab": vocabulary, "merges": merges}}
    if kind in _QWEN:
        split = {"type": "Split", "pattern": {"Regex": QWEN_PATTERN}, "behavior": "Isolated"}
        whole["normalizer"] = {"type": "NFC"}
        whole["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [split, {"type": "ByteLevel", "use_regex": False}],
        }
        return whole
    whole["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False}
    if kind in _ROBERTA:
        ends = {name: (token, vocabulary[token]) for name, token in (("cls", "<s>"), ("sep", "</s>"))}
        whole["post_processor"] = {"type": "RobertaProcessing", **ends}
    return whole


Piece = tuple[str, float, int]


def _xlmr_pieces(pieces: Sequence[Piece]) -> list[list[Any]]:
    """XLM-R's ids: four tokens of its own in front of SentencePiece's pieces, of which the first three go."""
    front = [[token, 0.0] for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return [*front, *([text, score] for text, score, _ in pieces[3:])]


def _camembert_pieces(pieces: Sequence[Piece]) -> list[list[Any]]:
    """CamemBERT's ids: fairseq's five tokens, then the pieces from the second on, which begin with `<s>` and
    `</s>`."""
    front = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>")
    unused = ["<unk>NOTUSED", -100.0]
    return [*([token, 0.0] for token in front), unused, *([text, score] for text, score, _ in pieces[1:])]


def _unigram(path: pathlib.Path, ids: Callable[[Sequence[Piece]], list[list[Any]]]) -> dict[str, Any]:
    """What transformers makes of a SentencePiece model of XLM-R's kind (`convert_slow_tokenizer`): unknown is
    3, `<mask>` the last one, and blanks at the end go.

    Args:
        path: the model.
        ids: the vocabulary of its pieces.
    """
    kind, pieces, charsmap = sentencepiece.read_model(path.read_bytes())
    if kind != sentencepiece.UNIGRAM:
        raise UnsupportedTokenizerError(
            f"{path.name} with a model of type {kind}, where XLM-R and CamemBERT have unigram"
        )
    vocab = [*ids(pieces), ["<mask>", 0.0]]
    places = {text: place for place, (text, _) in reversed([*enumerate(vocab)])}
    ends = {token: {"ids": [places[token]]} for token in ("<s>", "</s>")}
    single = [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"type_id": 0}}, {"SpecialToken": {"id": "</s>"}}]
    pair = [*single, {"SpecialToken": {"id": "</s>"}}, {"Sequence": {"type_id": 0}}, single[-1]]
    steps: list[dict[str, Any]] = [
        {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
    ]
    if charsmap:
        blob = base64.b64encode(charsmap).decode()
        steps.insert(0, {"type": "Precompiled", "precompiled_charsmap": blob})
    return {
        "model": {"type": "Unigram", "vocab": vocab, "unk_id": 3},
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": pair,
            "special_tokens": ends,
        },
    }
