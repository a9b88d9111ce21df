"""The classifier in a run: trained, blessed, described, and shown on the page."""

import dataclasses
import json
import pathlib

import jinja2
import pytest
from tfx.types import standard_artifacts

from pipeline.components import classifier_trainer
from pipeline.config.pipeline_config import DataConfig, PipelineConfig
from pipeline.onboarding.review_checks import check_classifier
from pipeline.runner import verdicts
from pipeline.runner.summary import describe
from tests.features.test_reviews import SPLIT, TEXT, written
from tests.test_classifier import CONFIG, labelled
from tfrec_fusion.config import ConfigError

PAGE = pathlib.Path("pipeline/report")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Output artifacts of the step."""
    folder = tmp_path_factory.mktemp("classifier")
    tables = written(folder, labelled())
    outputs = {
        "model": [standard_artifacts.Model()],
        "model_run": [standard_artifacts.ModelRun()],
        "blessing": [standard_artifacts.ModelBlessing()],
    }
    for name, (artifact,) in outputs.items():
        artifact.uri = str(folder / name)
    given = {"tables": tables, "classifier": CONFIG, "split": SPLIT, "text": TEXT}
    settings = {name: json.dumps(value, default=vars) for name, value in given.items()}
    classifier_trainer.Executor().Do({}, outputs, {**settings, "cache": str(folder / "vectors")})
    return {name: artifact for name, (artifact,) in outputs.items()}


def test_it_is_blessed_exported_and_described(trained, capsys):
    assert trained["blessing"].get_int_custom_property("blessed") == 1
    assert pathlib.Path(trained["blessing"].uri, "BLESSED").is_file()
    assert pathlib.Path(trained["model"].uri, "Format-Serving", "saved_model.pb").is_file()
    words = describe("ClassifierTrainer", trained)
    assert words.startswith("blessed: accuracy ") and words.endswith("3 classes")
    report = json.loads(pathlib.Path(trained["model_run"].uri, "classifier.json").read_text("utf-8"))
    summary = {"classifier": {**report, "pushed": None, "servable": {"ok": False, "reason": "no answer"}}}
    summary |= {"seconds": 1, "seconds_without_training_and_encoding": 1, "peak_memory_mb": 1}
    assert verdicts.show(summary) == verdicts.NOT_PUSHED
    shown = capsys.readouterr().out
    assert "classifier: NOT pushed" in shown and "not servable; no answer" in shown
    assert "the most frequent class" in shown
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGE), autoescape=True)
    environment.filters["number"] = lambda value, digits=4: f"{value:.{digits}f}"
    page = environment.get_template("classifier.html").render(summary=summary)
    for text in ("Confusion", "macro F1", "<td>mixed</td>", "logistic regression, same vectors"):
        assert text in page


def test_validate_shows_the_classes(tmp_path):
    tables = written(tmp_path, labelled())

    def findings(label, text="review", **changes):
        classifier = type(CONFIG)(label, **changes)
        interactions = dataclasses.replace(tables.interactions, text=text)
        data = DataConfig(interactions=interactions, items=tables.items)
        given = dataclasses.replace(tables, interactions=interactions)
        return list(check_classifier(given, PipelineConfig("x", data, text=TEXT, classifier=classifier)))

    (fine,) = findings("kind")
    assert fine.state == "ok" and fine.seen.startswith("3 classes in 'kind': bad 4")
    (wrong,) = findings("review")
    assert wrong.state == "wrong" and "which is `data.interactions.text`" in wrong.seen
    (many,) = findings("time")
    assert many.state == "wrong" and "at most 50 classes. Received: 400" in many.seen
    (spaced,) = findings("kind", classes=("good", " bad "))
    assert spaced.state == "ok" and spaced.seen.startswith("2 classes in 'kind': good 4")
    (absent,) = findings("kind", classes=("good", "awful"))
    assert absent.state == "wrong" and "Received: 'awful' with 0" in absent.seen
    (unread,) = findings("kind", text=None)
    assert unread.state == "wrong" and "reads `data.interactions.text`. Received: none" in unread.seen


def test_a_classifier_needs_an_encoder(tmp_path):
    tables = written(tmp_path, labelled(), text=None)
    data = DataConfig(interactions=tables.interactions, items=tables.items)
    with pytest.raises(ConfigError, match=r"`classifier` needs a text encoder.*Received: `text: none`"):
        PipelineConfig("x", data, text=None, classifier=CONFIG)
