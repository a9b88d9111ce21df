"""Forms of pictures and sounds, told by the first bytes of a file."""

from __future__ import annotations

__all__ = ["IMAGES", "SOUNDS", "form_of"]

IMAGES = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
"""Pictures that are read."""
SOUNDS = ("WAV",)
"""Sounds that are read."""
_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<!doctype": "HTML",
    b"<html": "HTML",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
}


def form_of(data: bytes) -> str:
    """What a file's first bytes say it is; "" where they say nothing that is known here."""
    if data[:4] == b"RIFF":
        return {b"WEBP": "WEBP", b"WAVE": "WAV"}.get(data[8:12], "RIFF")
    start = data[:16].lower() if data[:1] == b"<" else data
    return next((name for first, name in _BEGINNINGS.items() if start.startswith(first)), "")
