"""The pre-flight check: each mistake is found, and told with the way to mend it; what is right is not
complained about."""

import dataclasses
import importlib
import json
import re
import sys

import pytest

from pipeline.cli import main as cli
from pipeline.config.pipeline_config import DataConfig, PipelineConfig
from pipeline.config.vertex_config import Dataflow, Endpoint, TrainingJob
from pipeline.vertex import checking, cloud_checks, code_checks, config_checks, image
from pipeline.vertex.compiling import Compiled
from pipeline.vertex.inputs import Upload
from tests.pipeline.fake_google import BUCKET, PROJECT, REGION
from tests.pipeline.vertex_settings import plain_vertex
from tfrec_fusion.config import RankingConfig, RetrievalConfig, TrainingConfig

IMAGES = f"{REGION}-docker.pkg.dev/{PROJECT}/images"
VERTEX = dataclasses.replace(
    plain_vertex(),
    service_account=f"runs@{PROJECT}.iam.gserviceaccount.com",
    training=TrainingJob("g2-standard-8", "NVIDIA_L4", image=f"{IMAGES}/tfrec:1.2.3-cuda"),
    dataflow=Dataflow(),
    push="endpoint",
    endpoint=Endpoint(f"{IMAGES}/serving:2.19.1"),
)


def spec(**parameters):
    given = {
        "run_fn": "pipeline.callbacks.training.run_retrieval",
        "preprocessing_fn": "pipeline.callbacks.preprocessing.items_preprocessing_fn",
        "module_file": "null",
        "eval_config": json.dumps(
            {
                "metricsSpecs": [
                    {
                        "metrics": [
                            {"module": "pipeline.evaluation.retrieval", "className": "RetrievalMetrics"}
                        ]
                    }
                ]
            }
        ),
        **parameters,
    }
    values = {
        name: {"runtimeValue": {"constantValue": {"stringValue": text}}} for name, text in given.items()
    }
    return {"pipelineSpec": {"root": {"dag": {"tasks": {"Step": {"inputs": {"parameters": values}}}}}}}


def compiled(vertex=VERTEX, uploads=(), **changes):
    config = PipelineConfig("shop", DataConfig(reader="movielens_100k"), vertex=vertex)
    given = changes.pop("spec", None) or spec()
    return Compiled(given, list(uploads), dataclasses.replace(config, **changes), vertex)


def with_training(**changes):
    return compiled(dataclasses.replace(VERTEX, training=dataclasses.replace(VERTEX.training, **changes)))


def told(findings, state=None):
    return [
        f"{finding.about}: {finding.seen} {finding.remedy}"
        for finding in findings
        if state in (None, finding.state)
    ]


def training(strategy):
    both = TrainingConfig(strategy=strategy)
    return {
        "retrieval": RetrievalConfig(training=both),
        "ranking": RankingConfig(training=both),
    }


def test_what_is_right_is_not_complained_about(google):
    google.image["labels"] = cloud_checks.image_facts()
    assert told(checking.check(compiled())) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": f"{IMAGES}/tfrec"}, "no tag.*digest"),
        ({"image": f"{IMAGES}/tfrec:latest"}, "the tag latest.*steps are reused although their code changed"),
        ({"image": f"gcr.io/{PROJECT}/tfrec:1"}, "has been shut down.*europe-west4-docker.pkg.dev"),
        ({"image": "tfrec:1"}, "names no registry"),
        (
            {"image": f"us-central1-docker.pkg.dev/{PROJECT}/images/tfrec:1"},
            "in us-central1, the run in europe-west4",
        ),
        ({"endpoint": Endpoint("tensorflow/serving")}, "vertex.endpoint.image"),
        ({"labels": {"Team": "Shop"}}, "cannot be a label"),
    ],
)
def test_images_and_labels(changes, words):
    findings = config_checks.check_config(compiled(dataclasses.replace(VERTEX, **changes)))
    assert any(_has(line, words) for line in told(findings)), told(findings)


def _has(line, words):
    return re.search(words, line) is not None


@pytest.mark.parametrize(
    "image", [f"{IMAGES}/tfrec@sha256:{'0' * 64}", f"europe-docker.pkg.dev/{PROJECT}/i/tfrec:1"]
)
def test_digests_and_near_places_are_fine(image):
    assert told(config_checks.images(dataclasses.replace(VERTEX, image=image))) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": "n1-standard-8"}, "NVIDIA_L4 cannot be had on n1-standard-8.*g2-"),
        ({"accelerators": 3}, "3 of NVIDIA_L4 cannot be had.*Take 1, 2, 4, 8"),
        ({"accelerator": None}, "has accelerators, which must be named.*NVIDIA_L4"),
        ({"accelerator": "NVIDIA_L5"}, "is not among those known"),
        ({"accelerators": 2}, "uses one of the 2 accelerators.*mirrored"),
        ({"workers": 2}, "each would train a model of its own.*multi_worker"),
        ({"machine": "ct5lp-hightpu-4t", "accelerator": None}, "`tpu` goes with TPU machines"),
        ({"image": None}, "the GPU would idle.*VARIANT=cuda"),
    ],
)
def test_machines(changes, words):
    findings = config_checks.check_config(with_training(**changes))
    assert any(_has(line, words) for line in told(findings)), told(findings)


def test_machines_that_go_with_their_strategy():
    for job, strategy in (
        (TrainingJob("ct5lp-hightpu-4t"), "tpu"),
        (TrainingJob("n1-standard-8", workers=2), "multi_worker"),
        (TrainingJob("n1-standard-8", workers=3, servers=2), "parameter_server"),
        (TrainingJob("g2-standard-24", "NVIDIA_L4", 2, image=f"{IMAGES}/tfrec:1-cuda"), "mirrored"),
    ):
        run = compiled(dataclasses.replace(VERTEX, training=job), **training(strategy))
        assert told(config_checks.check_config(run)) == []


@pytest.mark.parametrize(
    ("job", "strategy", "words"),
    [
        (TrainingJob(workers=3), "parameter_server", "'parameter_server' with 3 workers and 0 servers"),
        (TrainingJob(servers=1), "parameter_server", "with 1 workers and 1 servers.*`servers` to 1 or more"),
        (TrainingJob(workers=2, servers=1), "multi_worker", "1 servers, which would do nothing"),
    ],
)
def test_servers_go_with_their_strategy(job, strategy, words):
    run = compiled(dataclasses.replace(VERTEX, training=job), **training(strategy))
    assert any(_has(line, words) for line in told(config_checks.check_config(run)))


def test_local_paths_and_tables_elsewhere(tmp_path):
    run = compiled()
    text = dataclasses.replace(run.config.text, encoder=str(tmp_path / "none"))
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, text=text))
    (line,) = told(config_checks.inputs(run))
    assert "no such folder is here to be sent" in line

    class Huge(Upload):
        size = 7_000_000_000

    (line,) = told(config_checks.inputs(compiled(uploads=[Huge("gs://b/o", b"")])))
    assert "7 GB of local files" in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "def make():\n    def inner(): pass\n    return inner\ncallback = make()\n",
            "inside another function.*`def`",
        ),
        ("callback = lambda: 1\n", "inside another function, or a lambda"),
        (
            "class Callback:\n    def __init__(self): self.rows = (row for row in ())\n"
            "    def __call__(self): pass\ncallback = Callback()\n",
            "cannot be pickled.*Keep locks, files",
        ),
        ("raise ImportError('no such library')\n", "cannot be imported: no such library"),
    ],
)
def test_callbacks_that_no_worker_could_load(tmp_path, monkeypatch, text, words):
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    sys.modules.pop("mine", None)
    (line,) = told(code_checks.callbacks(compiled(spec=spec(run_fn="mine.callback"))))
    assert _has(line, words), line


def test_module_files_and_misspelt_names():
    (line,) = told(code_checks.module_files(compiled(spec=spec(module_file="/home/me/trainer.py"))))
    assert "imports within a package break" in line
    (line,) = told(
        code_checks.callbacks(
            compiled(spec=spec(preprocessing_fn="pipeline.callbacks.preprocessing.missing"))
        )
    )
    assert "has no attribute 'missing'" in line


def test_a_package_that_the_image_will_not_have(tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "tfrec_fusion").mkdir()
    (tmp_path / "pipeline" / "trainer.py").write_text(
        "import numpy\nimport torch_geometric.nn\nimport ruff\n"
    )
    lock = tmp_path / "lock.txt"
    lock.write_text("numpy==1.0 \\\n    --hash=sha256:0\n")
    lines = told(code_checks.packages(tmp_path, code_checks.locked(lock)), "wrong")
    assert [line.split(":")[0] for line in lines] == ["ruff", "torch_geometric"]
    assert all("pipeline/trainer.py imports it" in line and "make lock" in line for line in lines)
    lines = told(code_checks.versions({"tensorflow": "1.0", "tfx": importlib.metadata.version("tfx")}))
    assert any(
        "tensorflow: Compiled here with" in line and "locked for the image: 1.0" in line for line in lines
    )
    assert any(line.startswith("apache-beam: The lock file does not pin it") for line in lines)
    assert not any(line.startswith("tfx:") for line in lines)


@pytest.mark.parametrize(
    ("state", "level", "words"),
    [
        (
            lambda google: google.disabled.add("dataflow"),
            "wrong",
            "Switched off.*gcloud services enable dataflow",
        ),
        (
            lambda google: google.refused.add("dataflow.jobs.create"),
            "wrong",
            "dataflow.jobs.create.*roles/dataflow.developer",
        ),
        (
            lambda google: google.refused.add("iam.serviceAccounts.actAs"),
            "wrong",
            "may not run steps as runs@.*roles/iam.serviceAccountUser",
        ),
        (
            lambda google: google.refused.add("storage.objects.create"),
            "wrong",
            "Not granted on shop-bucket: storage.objects.create.*roles/storage.objectAdmin",
        ),
        (
            lambda google: google.bucket.update(location="US-CENTRAL1"),
            "wrong",
            "The bucket is in us-central1, the run in europe-west4.*vertex.region: us-central1",
        ),
        (
            lambda google: google.bucket.update(location="US", locationType="multi-region"),
            "wrong",
            "The bucket is in us,",
        ),
        (
            lambda google: google.machines.discard("g2-standard-8"),
            "wrong",
            "No zone of europe-west4 has g2-standard-8.*another region",
        ),
        (
            lambda google: google.accelerators.discard("nvidia-l4"),
            "wrong",
            "No zone of europe-west4 has nvidia-l4",
        ),
        (
            lambda google: google.quota.update({REGION: 0}),
            "wrong",
            "the quota in europe-west4 is 0.*iam-admin/quotas",
        ),
        (lambda google: setattr(google, "image", None), "wrong", "is not in its registry.*Build and push"),
        (
            lambda google: google.image.update(labels={"tfrec.code": "0", "tfrec.lock": "0"}),
            "wrong",
            "holds other packages than this checkout.*Build and push it again",
        ),
        (lambda google: google.image.update(labels={}), "note", "does not say what it was built from"),
        (lambda google: google.faults.update(expired=True), "unknown", "have expired.*gcloud auth"),
        (
            lambda google: google.faults.update(forbidden="services:batchGet"),
            "unknown",
            "services: Not checked. Checking services was refused",
        ),
        (
            lambda google: google.faults.update(unavailable="testIam"),
            "unknown",
            "Not checked.*could not be reached",
        ),
    ],
)
def test_what_google_says(google, state, level, words):
    google.image["labels"] = cloud_checks.image_facts()
    state(google)
    lines = told(cloud_checks.check_cloud(compiled()), level)
    assert any(_has(line, words) for line in lines), lines


def test_a_bucket_that_is_not_there_or_not_ours(google):
    elsewhere = dataclasses.replace(VERTEX, bucket="gs://nobodys-bucket")
    lines = told(cloud_checks.check_cloud(compiled(elsewhere)), "wrong")
    assert any("There is no bucket nobodys-bucket" in line and "buckets create" in line for line in lines)
    google.faults["forbidden"] = f"/b/{BUCKET}$"
    lines = told(cloud_checks.check_cloud(compiled()), "wrong")
    assert any("somebody else's" in line for line in lines)


def test_a_near_multi_region_is_near(google):
    google.bucket.update(location="EU", locationType="multi-region")
    google.image["labels"] = cloud_checks.image_facts()
    assert told(cloud_checks.check_cloud(compiled())) == []


def test_without_credentials_the_rest_is_checked_and_the_gap_told(google, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/key.json")
    (finding,) = checking.check(compiled())
    assert finding.state == "unknown"
    assert "Not checked: services, rights" in finding.seen
    assert "gcloud auth application-default login" in finding.remedy


def test_the_image_is_built_with_what_the_check_compares(google):
    lines = image.commands(VERTEX)
    assert len(lines) == 4
    assert "VARIANT=cuda" in lines[2]
    for name, value in cloud_checks.image_facts().items():
        assert f"--label={name}={value}" in lines[0]


def test_the_command_prints_findings_and_sends_nothing_with_errors(google, tmp_path, capsys, monkeypatch):
    from pipeline.vertex import compiling

    monkeypatch.setattr(compiling, "compile_pipeline", lambda config: compiled(config.vertex))
    monkeypatch.chdir(tmp_path)
    sets = ["vertex_movielens_100k", "--set", f"vertex.image={IMAGES}/tfrec:latest", "--offline"]
    assert cli.main(["vertex", "check", *sets]) == 1
    out = capsys.readouterr().out
    assert "WRONG    vertex.image" in out
    assert "1 to mend" in out
    assert cli.main(["vertex", "submit", *sets]) == 1
    assert "Nothing was sent" in capsys.readouterr().out
    assert google.objects == {}


def test_the_command_sends_a_whole_run_off(google, tmp_path, capsys):
    google.image["labels"] = cloud_checks.image_facts()
    sets = {
        "vertex.project": PROJECT,
        "vertex.bucket": f"gs://{BUCKET}/recommenders",
        "vertex.image": f"{IMAGES}/tfrec:1.2.3",
        "vertex.training.image": f"{IMAGES}/tfrec:1.2.3-cuda",
        "root": tmp_path,
    }
    words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
    assert cli.main(["vertex", "submit", "vertex_movielens_100k", "--wait", *words]) == 0
    out = capsys.readouterr().out
    assert "to mend" not in out
    assert "sends 5 of 5" in out
    assert f"Started: https://console.cloud.google.com/vertex-ai/locations/{REGION}/pipelines/runs/" in out
    assert "succeeded" in out
    (job,) = google.jobs.values()
    read = set(re.findall(rf"gs://{BUCKET}/(recommenders/movielens-100k/inputs/[\w./-]+)", json.dumps(job)))
    assert read == set(google.objects)
