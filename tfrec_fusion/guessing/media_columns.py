"""Columns that name files: pictures and sounds that can be encoded, and what else lies under such names."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

from tfrec_fusion.datasets.media_files import UnusableMedia, check_regular
from tfrec_fusion.datasets.media_forms import IMAGES, SOUNDS, form_of
from tfrec_fusion.guessing.column_profiles import Column

__all__ = ["media_role"]

LOOKED_AT = 20  # files
_ENDINGS = {
    "images": ("jpg", "jpeg", "png", "gif", "bmp", "webp"),
    "audio": ("wav",),
    "sounds of a form that is not read; write them as WAV to use them": (
        *("mp3", "ogg", "flac", "m4a", "aac", "opus", "wma"),
    ),
    "pictures of a form that is not read; write them as PNG or JPEG to use them": (
        *("tif", "tiff", "svg", "avif", "heic", "ico", "psd"),
    ),
}
_ANY = {"images": "pictures", "audio": "sounds"}


def media_role(column: Column, files: Iterable[pathlib.Path]) -> tuple[str, str]:
    """`images`, `audio` or "" (left out), and why.

    Args:
        column: of addresses or paths.
        files: of its table, at whose folders relative paths start.
    """
    values = column.unique[:2000].astype("string")
    endings = values.str.extract(r"\.(\w{2,5})(?:[?#].*)?$", expand=False).str.lower()
    role = next((role for role, known in _ENDINGS.items() if endings.isin(known).mean() > 0.5), "")
    if role not in _ANY:
        return "", role or "addresses or files"
    use = f"{role}: [{column.name}] under items"
    if values.str.match(r"https?://", case=False).mean() > 0.5:
        return "", f"addresses of {_ANY[role]}; to have them fetched and encoded: {use}"
    folders = list(dict.fromkeys(file.resolve().parent for file in files))
    looked = values[:LOOKED_AT].tolist()
    known = IMAGES if role == "images" else SOUNDS
    found = sum(any(_form(folder / name) in known for folder in folders) for name in looked)
    if found < 0.5 * len(looked):
        return "", (
            f"names of {_ANY[role]}, of which {found} of {len(looked)} were found beside the table; to use"
            f" them: {use}, and media: {{folder: …}} where they are"
        )
    return role, f"files of {_ANY[role]}; {found} of the {len(looked)} looked at are there"


def _form(path: pathlib.Path) -> str:
    try:
        check_regular(path)
        with path.open("rb") as stream:
            return form_of(stream.read(64))
    except (OSError, ValueError, UnusableMedia):
        return ""
