"""Ids of in-graph tokenizers beside Hugging Face's, language by language, and what a text costs.

    python -m benchmarks.tokenizers FOLDER… [--texts FOLDER]

Each FOLDER holds a tokenizer's files. `--texts` is searched for real texts: `.txt` files of one text a line,
whose names are languages, and gettext catalogues (`.po`), whose language is the folder above `LC_MESSAGES`
(an unpacked wheel of Django has 98). Without it one sentence a language is compared, hard strings always.
Prints a line a language and the first differences; ends with 1 if there are any.
"""

from __future__ import annotations

import argparse
import ast
import collections
import pathlib
import re
import sys
import time

from benchmarks.tokenizer_texts import HARD, LANGUAGES

SHOWN = 3
_MESSAGE = re.compile(r'^msgstr(?:\[\d\])? ((?:".*"\n)+)', re.MULTILINE)


def read_texts(folder: pathlib.Path) -> dict[str, list[str]]:
    """Texts by language."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for path in sorted(folder.rglob("*.txt")):
        found[path.stem] += [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    for path in sorted(folder.rglob("LC_MESSAGES/*.po")):
        for message in _MESSAGE.findall(path.read_text(encoding="utf-8")):
            text = "".join(ast.literal_eval(line) for line in message.strip().split("\n"))
            if text and "Project-Id-Version" not in text:
                found[path.parts[-3]].append(text)
    return found


def witness(folder: pathlib.Path):
    """Hugging Face's own tokenizer of a folder."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder).backend_tokenizer
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def compare(folder: pathlib.Path, texts: dict[str, list[str]]) -> int:
    """Prints a table; returns how many texts have other ids."""
    import tensorflow as tf

    import tfrec_fusion  # noqa: F401  (Keras 2 before TensorFlow)
    from tfrec_fusion.layers import load_tokenizer

    start = time.perf_counter()
    layer, theirs = load_tokenizer(folder, 64), witness(folder)
    print(f"{folder}: {type(layer).__name__}, loaded in {time.perf_counter() - start:.1f} s")
    signature = [tf.TensorSpec([None], tf.string)]
    tokenize = tf.function(lambda batch: layer.tokenize(batch), input_signature=signature)
    tokenize(tf.constant([""]))
    print(f"  {'language':12} {'texts':>7} {'tokens':>9} {'other ids':>10} {'µs a text':>10} {'theirs':>7}")
    wrong = 0
    for language, batch in texts.items():
        start = time.perf_counter()
        ours = tokenize(tf.constant(batch)).to_list()
        middle = time.perf_counter()
        expected = [row.ids for row in theirs.encode_batch(batch, add_special_tokens=False)]
        end = time.perf_counter()
        other = [row for row in zip(batch, ours, expected, strict=True) if row[1] != row[2]]
        wrong += len(other)
        costs = [1e6 * seconds / len(batch) for seconds in (middle - start, end - middle)]
        print(
            f"  {language:12} {len(batch):7,} {sum(map(len, expected)):9,} {len(other):10}"
            f" {costs[0]:10.0f} {costs[1]:7.0f}"
        )
        for text, mine, right in other[:SHOWN]:
            at = next((n for n, pair in enumerate(zip(mine, right, strict=False)) if pair[0] != pair[1]), 0)
            print(f"    {text[:60]!r}: at {at} {mine[at : at + 5]}, Hugging Face {right[at : at + 5]}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--texts", type=pathlib.Path)
    options = parser.parse_args()
    texts = read_texts(options.texts) if options.texts else {name: [text] for name, text in LANGUAGES.items()}
    return int(sum(compare(folder, {**texts, "hard": HARD}) for folder in options.folders) > 0)


if __name__ == "__main__":
    sys.exit(main())
