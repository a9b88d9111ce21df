"""What pictures and sounds are worth, and what they cost.

    python -m benchmarks.modalities [planted] [cost] [--encoders efficientnet,patterns] [--count 1000]

- `planted`: groups of items of which the picture alone, or the sound alone, tells, and the same with files of
  any group (`planted_media`).
- `cost`: seconds and peak memory of encoding pictures and sounds, again with nothing new, with one in a
  hundred changed, and after a kill in the middle.

Models are fitted by `tfrec_fusion.Recommender`, retrieval alone, without text. Intervals are those of a
paired bootstrap over groups, whose members want the same, of the difference to the model without the files.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.graphs import Figures, compared, recommender
from benchmarks.peak_memory import peak_megabytes
from benchmarks.planted_media import ndcg, planted_media
from tfrec_fusion.datasets.media import Media, MediaKind

KINDS: tuple[tuple[MediaKind, str], ...] = (
    ("images", "efficientnet"),
    ("images", "patterns"),
    ("audio", "patterns"),
)


def of_planted(options: argparse.Namespace) -> Figures:
    """Files that tell everything and nothing, against none."""
    results: Figures = {}
    print("\nPlanted, NDCG@10          users  without     with  interval of the difference")
    for kind, encoder in KINDS:
        if encoder not in options.encoders:
            continue
        for noise in (False, True):
            with tempfile.TemporaryDirectory() as scratch:
                results |= of_one(options, pathlib.Path(scratch), kind, encoder, noise)
    return results


def of_one(
    options: argparse.Namespace, folder: pathlib.Path, kind: MediaKind, encoder: str, noise: bool
) -> Figures:
    """One kind of files with one encoder."""
    data = planted_media(folder, kind, noise, seed=options.seed)
    users = list(data.liked)
    asked = {"known items": False, "new items": True}
    key = "image_encoder" if kind == "images" else "audio_encoder"
    rows = []
    for given in (False, True):
        described = data.described(**{key: encoder}) if given else {"items": {"id": "item_id"}}
        items = data.items if given else data.items[["item_id"]]
        model = recommender(options, data=described).fit(data.interactions, items)
        rows.append({name: ndcg(model, data, new=new) for name, new in asked.items()})
    groups = {
        group: number for number, group in enumerate(dict.fromkeys(map(frozenset, data.liked.values())))
    }
    together = np.array([groups[frozenset(data.liked[user])] for user in users])
    found = {}
    for name in asked:
        row = f"{kind} {encoder[:4]}{' noise' if noise else ''}: {name}"
        found[row] = compared(row, rows[0][name], rows[1][name], together)
    return found


def of_cost(options: argparse.Namespace) -> Figures:
    """Seconds on the clock and of a processor, and peak memory, each in a process of its own."""
    results: Figures = {}
    print(f"\n{'Cost':<28} {'encoded':>8} {'seconds':>8} {'of CPU':>8} {'MB':>7}")
    for kind, encoder in KINDS:
        if encoder not in options.encoders:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch, "files")
            folder.mkdir()
            ending = "jpg" if kind == "images" else "wav"
            names = [f"{number}.{ending}" for number in range(options.count)]
            for number, name in enumerate(names):
                draw_large(folder / name, kind, number)
            for case, listed in (("nothing", names[:0]), ("first", names), ("nothing new", names)):
                results |= measured(f"{kind} {encoder}: {case}", kind, encoder, scratch, "cache", listed)
            for number in range(0, options.count, 100):
                draw_large(folder / names[number], kind, number + options.count)
            results |= measured(f"{kind} {encoder}: 1 % changed", kind, encoder, scratch, "cache", names)
            kill_in_the_middle(kind, encoder, scratch, names)
            results |= measured(f"{kind} {encoder}: after a kill", kind, encoder, scratch, "killed", names)
    return results


def draw_large(path: pathlib.Path, kind: MediaKind, number: int) -> None:
    """A JPEG of 640 x 480, or a sound of ten seconds."""
    rng = np.random.default_rng(number)
    if kind == "audio":
        from scipy.io import wavfile

        from benchmarks.planted_media import RATE, sound

        wavfile.write(path, RATE, (sound(number % 6, rng, 10.0) * 32767).astype(np.int16))
        return
    from PIL import Image

    from benchmarks.planted_media import picture

    Image.fromarray(picture(number % 6, rng, 160)).resize((640, 480)).save(path, quality=90)


def measured(row: str, kind: MediaKind, encoder: str, scratch: str, cache: str, names: list[str]) -> Figures:
    """Encodes in another process, and prints a row."""
    done = subprocess.run(
        command(kind, encoder, scratch, cache, names), capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"{row:<28} {found['encoded']:>8,} {found['seconds']:>8.1f} {found['cpu']:>8.1f}"
        f" {found['megabytes']:>7,.0f}",
        flush=True,
    )
    return {row: found}


def kill_in_the_middle(kind: MediaKind, encoder: str, scratch: str, names: list[str]) -> None:
    """Encodes into another cache, and kills the process when a shard is there."""
    process = subprocess.Popen(command(kind, encoder, scratch, "killed", names), stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(pathlib.Path(scratch, "killed").glob("*/*.npz")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()


def command(kind: MediaKind, encoder: str, scratch: str, cache: str, names: list[str]) -> list[str]:
    """The command of a process that encodes."""
    listed = pathlib.Path(scratch, "names.json")
    listed.write_text(json.dumps(names), encoding="utf-8")
    return [sys.executable, "-m", "benchmarks.modalities", "--encode", kind, encoder, scratch, cache]


def encode(kind: MediaKind, encoder: str, scratch: str, cache: str) -> None:
    """What that process does."""
    from tfrec_fusion.features.media_vectors import encode_media

    names = json.loads(pathlib.Path(scratch, "names.json").read_text(encoding="utf-8"))
    folder = os.path.join(scratch, "files")
    of_images = kind == "images"
    media = Media(folder, image_encoder=encoder) if of_images else Media(folder, audio_encoder=encoder)
    clock, processor = time.perf_counter(), time.process_time()
    found = encode_media(kind, names, media, os.path.join(scratch, cache))
    seconds = {"seconds": time.perf_counter() - clock, "cpu": time.process_time() - processor}
    print(json.dumps({"encoded": found.report["encoded"], **seconds, "megabytes": peak_megabytes()}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", help="planted, cost (default: both)")
    parser.add_argument("--encoders", default="efficientnet,patterns")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000, help="files that are encoded")
    parser.add_argument("--encode", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.encode:
        encode(*options.encode)
        return
    options.encoders = options.encoders.split(",")
    parts = {"planted": of_planted, "cost": of_cost}
    for name in options.what or parts:
        if name not in parts:
            parser.error(f"`what` must be {' or '.join(parts)}. Received: {name!r}.")
        parts[name](options)


if __name__ == "__main__":
    main()
