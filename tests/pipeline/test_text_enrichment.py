"""Texts that a language model writes, on their way through the pipeline and the command line."""

import dataclasses
import json
import pathlib
import threading
import time

import pandas as pd
import pytest
import yaml

from pipeline.cli.main import main
from pipeline.components import text_enrichment
from pipeline.components.artifacts import GeneratedTexts
from pipeline.components.example_gen import with_texts
from pipeline.config.pipeline_config import load_config, tables_of, to_json
from pipeline.data import schemas
from pipeline.definition import index_update
from pipeline.definition.training import create_pipeline
from pipeline.onboarding.text_checks import check_enrichment
from tests.enrichment.fake_endpoint import serving
from tests.enrichment.test_asking import SPLIT, TITLES, about, settings, shop
from tfrec_fusion import Recommender
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.tables import GeneratedText
from tfrec_fusion.enrichment import asking
from tfrec_fusion.features.rows import EntityReader
from tfrec_fusion.in_memory import fitted
from tfrec_fusion.serving.client.answers import Recommendations, Recommended
from tfrec_fusion.serving.client.client import Client


@pytest.fixture
def written(tmp_path):
    """A configuration's file, and the endpoint that it names."""
    shop(tmp_path)
    with serving(lambda request, number: about(request)) as fake:
        values = {
            "name": "shop",
            "root": str(tmp_path / "runs"),
            "data": {"interactions": {"path": "choices.csv"},
                     "items": {"path": "items.csv", "title": "title", "text": ["title"]}},
            "split": {"method": "leave_last_out"},
            "text": {"encoder": "subwords"},
            "enrich": {"template": "products", "endpoint": {"base_url": fake.url, "model": "writer"}},
        }  # fmt: skip
        file = tmp_path / "shop.yaml"
        file.write_text(yaml.safe_dump(values))
        yield str(file), fake


def artifact(kind, folder):
    made = kind()
    made.uri = str(folder)
    folder.mkdir(exist_ok=True)
    return [made]


def test_the_component_writes_what_example_gen_joins(tmp_path):
    tables = shop(tmp_path)
    with serving(lambda request, number: about(request)) as fake:
        config = settings(fake)
        properties = {
            "tables": to_json(tables),
            "split": to_json(SPLIT),
            "enrich": to_json(config),
            "answers": str(tmp_path / "answers"),
        }
        texts = artifact(GeneratedTexts, tmp_path / "texts")
        text_enrichment.Executor().Do({}, {"generated_texts": texts}, properties)
    generated = GeneratedText("", column=config.column, use=config.use)
    tables = dataclasses.replace(tables, items=dataclasses.replace(tables.items, generated=generated))
    joined = with_texts(tables, text_enrichment.texts_file({"generated_texts": texts})).items
    rows = dict(EntityReader(joined, "items").read(joined.path))
    (name,) = [name for name in rows["item-0"] if name.startswith("text__generated")]
    assert {item: row[name] for item, row in rows.items()} == {
        f"item-{number}": f"This is {title}, for everybody." for number, title in enumerate(TITLES)
    }
    assert with_texts(tables, text_enrichment.texts_file({})) == tables
    report = json.loads((tmp_path / "texts" / "report.json").read_text())
    assert report["items"] == {"all": 6, "kept": 6}
    # A run leaves what requests read, as `tfrec enrich` does.
    assert asking.newest(tmp_path / "answers").name == "1"


def test_a_run_begins_with_the_texts(written):
    config = load_config(written[0])
    components = {component.id: component for component in create_pipeline(config).components}
    made = components["TextEnrichment"].outputs["generated_texts"]
    assert components["TablesExampleGen"].inputs["generated_texts"] == made
    parameters = components["TextEnrichment"].exec_properties
    assert parameters["answers"].endswith("/shop/enrichment")
    without = create_pipeline(load_config(written[0], ["enrich=none"])).components
    assert "TextEnrichment" not in [component.id for component in without]


def test_new_items_are_written_about_as_those_of_training_were(written, monkeypatch):
    config = load_config(written[0])
    trained = tables_of(config)
    monkeypatch.setattr(index_update, "_trained", lambda _: {"RetrievalTrainer/model_run": ""})
    monkeypatch.setattr(index_update, "trained_tables", lambda _: trained)
    table = index_update.offered_table(config, "new.csv")
    assert (table.path, table.generated) == ("new.csv", GeneratedText("", column="generated"))
    for changed in ("enrich=none", "enrich.use=instead", "enrich.column=blurb"):
        with pytest.raises(ConfigError, match="Generated texts must be what the pushed model"):
            index_update.offered_table(load_config(written[0], [changed]), "new.csv")


@pytest.mark.parametrize(
    ("flags", "state", "words"),
    [
        ([], "ok", "told of items alone"),
        (["enrich.users=true"], "note", "without ids, are sent to http://127.0.0.1"),
        (["enrich.endpoint.key_variable=NO_SUCH_KEY"], "wrong", "NO_SUCH_KEY holds no key"),
    ],
)
def test_validate_says_what_is_sent_and_what_is_missing(written, flags, state, words):
    (finding,) = check_enrichment(load_config(written[0], flags))
    assert finding.state == state
    assert words in finding.seen


@pytest.mark.parametrize(("use", "share"), [("after", 0.5), ("instead", 0.0)])
def test_the_schema_asks_for_own_texts_alone(written, use, share):
    tables = tables_of(load_config(written[0], [f"enrich.use={use}"]))
    shares = [
        feature.presence.min_fraction
        for feature in schemas.items_schema(tables, 0.5).feature
        if feature.name.startswith("text__")
    ]
    assert shares == [share, 0.0]


def test_texts_are_asked_for_or_given_and_not_both(written):
    with pytest.raises(ConfigError, match="exclude each other"):
        tables_of(load_config(written[0], ["data.items.generated={path: x.parquet}"]))


def test_the_command_asks_once_and_says_what_it_costs(written, capsys):
    file, fake = written
    assert main(["enrich", file, "--estimate"]) == 0
    assert "title: Stuhl" in capsys.readouterr().out
    assert not fake.requests
    assert main(["enrich", file, "--show", "1"]) == 0
    out = capsys.readouterr().out
    assert "6 questions to ask writer: at most about" in out
    assert "item item-0: This is Stuhl 🪑, for everybody." in out
    assert "item-1" not in out
    assert out.rstrip().endswith("enrichment/versions/1")
    assert main(["enrich", file]) == 0
    assert "as before" in capsys.readouterr().out
    assert len(fake.requests) == 6


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--set", "enrich=none"], "needs the key `enrich`"),
        (["--set", "enrich.endpoint.key_variable=NO_SUCH_KEY"], "variable NO_SUCH_KEY must hold"),
        (["--set", "enrich.endpoint.base_url=http://127.0.0.1:9/v1", "--set", "enrich.endpoint.retries=0"],
         "cannot be reached"),
        (["--set", "enrich.tempalte=films"], "Did you mean `template`?"),
    ],
)  # fmt: skip
def test_what_the_command_cannot_do_it_says(written, flags, words, capsys):
    assert main(["enrich", written[0], *flags]) == 1
    assert words in capsys.readouterr().err


class FakeClient:
    """Answers with three items."""

    asked: dict = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def recommend(self, **given):
        FakeClient.asked = given
        items = [
            Recommended("a", 3.0, "Alien"),
            Recommended("b", 2.0, "Babe"),
            Recommended("c", 1.0, "Casino"),
        ]
        return Recommendations(items)


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(Client, "connect", lambda *_, **__: FakeClient())


@pytest.mark.parametrize(
    ("answer", "order", "said"),
    [
        ('{"order": [{"number": 3, "why": "It is about money."}]}', "cab", "Casino: It is about money."),
        ("no idea", "abc", "in the plain order: The language model gave no order"),
    ],
)
def test_a_language_model_orders_the_answer_or_it_stays_as_it_is(written, asked, capsys, answer, order, said):
    file, fake = written
    fake.answer = lambda request, number: answer
    assert main(["recommend", "--text", "money", "--llm", "--config", file]) == 0
    out, err = capsys.readouterr()
    assert "".join(line.split()[2] for line in out.splitlines()) == order
    assert said in out + err
    assert fake.told()[0].startswith("BEGIN RECORD\nAsked for: money\nCandidate 1: Alien")


def test_a_language_model_that_is_silent_is_not_waited_for(written, asked, capsys):
    file, fake = written
    answered, begin = threading.Event(), time.monotonic()
    fake.answer = lambda request, number: str(answered.wait(60))
    assert main(["recommend", "--text", "money", "--llm", "--llm-seconds", "0.3", "--config", file]) == 0
    answered.set()
    assert time.monotonic() - begin < 30
    out, err = capsys.readouterr()
    assert "".join(line.split()[2] for line in out.splitlines()) == "abc"
    assert "in the plain order: no answer within 0.3 s" in out + err


def test_the_order_needs_a_configuration(written, asked, capsys):
    assert main(["recommend", "--text", "money", "--llm"]) == 1
    assert "needs `--config`" in capsys.readouterr().err


def test_what_was_written_of_a_user_is_asked_with_and_stays_here_unless_wanted(written, asked, capsys):
    file, fake = written
    on = ["--set", "enrich.users=true"]
    fake.answer = lambda request, number: "Likes a quiet home."
    assert main(["enrich", file, *on]) == 0
    assert main(["recommend", "--user", "secret-u1", "--profile", "--config", file]) == 0
    assert "nothing was written" in capsys.readouterr().err
    values = yaml.safe_load(pathlib.Path(file).read_text())
    values["enrich"]["users"] = True
    pathlib.Path(file).write_text(yaml.safe_dump(values))
    assert main(["recommend", "--user", "secret-u1", "--profile", "--config", file]) == 0
    assert FakeClient.asked["text"] == "Likes a quiet home."


def test_fit_reads_what_is_written(tmp_path, monkeypatch):
    tables, texts = shop(tmp_path), []

    def fit_models(given, *_):
        for key, row in EntityReader(given.items, "items").read(given.items.path):
            texts.append((key, next(value for name, value in row.items() if "generated" in name)))
        raise KeyboardInterrupt

    monkeypatch.setattr(fitted, "fit_models", fit_models)
    with serving(lambda request, number: about(request)) as fake:
        enrich = {"endpoint": {"base_url": fake.url, "model": "writer"}, "folder": str(tmp_path / "answers")}
        names = {"items": {"title": "title", "text": ["title"]}}
        model = Recommender(verbose=0, enrich=enrich, split__method="leave_last_out", data=names)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                model.fit(tables.interactions.path, pd.read_csv(tables.items.path))
    assert (
        texts[:6]
        == texts[6:]
        == [(f"item-{number}", f"This is {title}, for everybody.") for number, title in enumerate(TITLES)]
    )
    assert len(fake.requests) == 6
