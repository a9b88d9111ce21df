"""Findings of `tfrec validate` on the pictures and sounds that items name."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator

from pipeline.config.findings import Finding
from pipeline.config.pipeline_config import PipelineConfig
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.digests import media_references
from tfrec_fusion.datasets.media import BUILT_IN, MediaKind
from tfrec_fusion.datasets.media_files import Source, UnusableMedia, check_regular, is_web, short
from tfrec_fusion.datasets.media_forms import IMAGES, SOUNDS, form_of
from tfrec_fusion.datasets.storage import is_remote
from tfrec_fusion.datasets.tables import Items
from tfrec_fusion.layers.packaged_weights import WeightsNotFoundError, find_weights

SAMPLE = 1000


def check_media(table: Items, config: PipelineConfig) -> Iterator[Finding]:
    """Whether the encoders are there, and how many files can be used by their beginning; of addresses of the
    web nothing is fetched."""
    for kind in dict.fromkeys(kind for kind, _ in table.media_columns):
        if missing := _encoder_missing(table, kind):
            yield Finding("wrong", f"items.{kind}", missing)
    for kind, column in table.media_columns:
        about = f"items.{column}"
        try:
            names = list(media_references(table, column))
        except ConfigError as error:
            yield Finding("wrong", about, str(error))
            continue
        here = [name for name in names if not is_remote(name)][:SAMPLE]
        faults = {name: fault for name in here if (fault := _fault(name, table, kind))}
        yield from _finding(about, names, here, faults, config)


def _finding(
    about: str, names: list[str], here: list[str], faults: dict[str, str], config: PipelineConfig
) -> Iterator[Finding]:
    far = sum(map(is_web, names))
    counted = collections.Counter(fault.partition(":")[0] for fault in faults.values())
    words = ", ".join(f"{count:,} {fault}" for fault, count in counted.most_common())
    of = f" of the first {len(here):,}" if len(here) < len(names) - far else ""
    rest = f"; {far:,} on the web, which are fetched when they are encoded" if far else ""
    if not names:
        yield Finding("wrong", about, "no item has a file. Name another column, or leave it out.")
        return
    text = f"{len(names):,} files{rest}"
    if not faults:
        yield Finding("ok", about, f"{text}; all that lie here can be read{of}" if here else text)
        return
    name, fault = next(iter(faults.items()))
    text = f"{text}; of {len(here):,} that lie here {words} (such as {short(name)!r}: {fault})"
    allowed = config.data.max_reject_share
    if len(faults) == len(names):
        way_out = "mend it, or `data.items.media.folder`, at which relative paths start"
        yield Finding(
            "wrong", about, f"{text}. A column of which no file can be used stops a run: {way_out}."
        )
    elif len(faults) > allowed * len(here):
        yield Finding(
            "wrong",
            about,
            f"{text}. `data.max_reject_share` allows {allowed:.1%}. Mend the files, the column, or"
            " `data.items.media.folder`, at which relative paths start.",
        )
    else:
        yield Finding("note", about, f"{text}; {allowed:.1%} may be; those items go without")


def _fault(name: str, table: Items, kind: MediaKind) -> str:
    """Why a file of this machine cannot be used, by its size and beginning; "" where it may."""
    media = table.media
    try:
        path = Source(media).path(name)
        check_regular(path)
        if path.stat().st_size > media.max_megabytes * 1e6:
            return f"larger than `media.max_megabytes` ({media.max_megabytes:g})"
        with path.open("rb") as stream:
            form = form_of(stream.read(64))
    except (OSError, ValueError, UnusableMedia) as error:
        return f"no such file: {type(error).__name__}"
    known = IMAGES if kind == "images" else SOUNDS
    what = "no picture" if kind == "images" else "no sound"
    return "" if form in known else f"{what} ({', '.join(known)}): {form or 'no form that is known here'}"


def _encoder_missing(table: Items, kind: MediaKind) -> str:
    """What is wrong with an encoder, as far as it can be seen without loading it."""
    key = "image_encoder" if kind == "images" else "audio_encoder"
    encoder = getattr(table.media, key)
    if encoder == "efficientnet" and kind == "images":
        try:
            find_weights()
        except WeightsNotFoundError as error:
            return str(error)
    names = BUILT_IN if kind == "images" else ("patterns",)
    if encoder in names or os.path.exists(os.path.expanduser(encoder)):
        return ""
    return (
        f"`data.items.media.{key}` must be {' or '.join(map(repr, names))}, or the path of a Keras model or"
        f" SavedModel. Received: {encoder!r}, which is not there."
    )
