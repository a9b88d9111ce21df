"""The spec for Vertex AI: valid by KFP's schema, as reviewed, and without a trace of this machine."""

import dataclasses
import json
import pathlib
import re
import sys

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.utils import import_utils

from pipeline.config.pipeline_config import load_config
from pipeline.config.vertex_config import Dataflow, Endpoint, StepMachine, TrainingJob, VertexConfig
from pipeline.vertex import runner as vertex_runner
from pipeline.vertex.compiling import compile_pipeline, legal_name
from tests.pipeline.small_shop import write_shop
from tfrec_fusion.config import ConfigError

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = pathlib.Path(__file__).parent / "golden" / "vertex_spec.json"
VERTEX = VertexConfig(
    project="shop-project",
    region="europe-west4",
    bucket="gs://shop-bucket/recommenders/",
    image="europe-west4-docker.pkg.dev/shop-project/images/tfrec:1.2.3",
    service_account="runs@shop-project.iam.gserviceaccount.com",
    steps=StepMachine(cpu=2, memory_gb=8),
    training=TrainingJob("g2-standard-8", "NVIDIA_L4", spot=True, hours=2),
    dataflow=Dataflow(max_workers=3, public_ips=False, subnetwork="regions/europe-west4/subnetworks/data"),
    push="endpoint",
    endpoint=Endpoint("europe-west4-docker.pkg.dev/shop-project/images/serving:2.19.1"),
    labels={"team": "shop"},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def config(folder):
    return dataclasses.replace(write_shop(folder), vertex=VERTEX)


@pytest.fixture(scope="module")
def compiled(config):
    return compile_pipeline(config)


def tasks(compiled):
    return compiled.spec["pipelineSpec"]["root"]["dag"]["tasks"]


def container(compiled, task):
    return compiled.spec["pipelineSpec"]["deploymentSpec"]["executors"][f"{task}_executor"]["container"]


def parameter(compiled, task, name):
    (value,) = tasks(compiled)[task]["inputs"]["parameters"][name]["runtimeValue"]["constantValue"].values()
    return value


def reviewable(spec):
    """What a user reads of a spec: digests of code and data replaced, artifacts' schemas by their titles,
    callbacks' own settings by their keys, and what all containers share once."""
    root = spec["pipelineSpec"]
    executors = root["deploymentSpec"]["executors"]
    results, shared = {}, {}
    for name, task in sorted(root["root"]["dag"]["tasks"].items()):
        component = root["components"][task["componentRef"]["name"]]
        outputs = component["outputDefinitions"]["artifacts"]
        inputs = task["inputs"].get("artifacts", {})
        results[name] = {
            "after": task.get("dependentTasks", []),
            "cached": task.get("cachingOptions", {}).get("enableCache", False),
            "inputs": {
                key: "{producerTask}.{outputArtifactKey}".format(**value["taskOutputArtifact"])
                for key, value in inputs.items()
            },
            "outputs": {
                key: re.match(r"title: (\S+)", value["artifactType"]["instanceSchema"])[1]
                for key, value in outputs.items()
            },
            "parameters": {
                key: readable(key, value["runtimeValue"]["constantValue"])
                for key, value in task["inputs"].get("parameters", {}).items()
            },
        }
        ((kind, run),) = executors[component["executorLabel"]].items()
        results[name][kind] = run["args"][1]
        common = {**run, "args": ["--executor_class_path", "<class>", *run["args"][2:]]}
        shared = shared or common
        size = len(shared["args"])
        if common["args"][size:]:
            results[name]["own flags"] = common["args"][size:]
        assert {**common, "args": common["args"][:size]} == shared, name
    rest = {key: value for key, value in spec.items() if key != "pipelineSpec"}
    rest["labels"] = {key: value for key, value in rest["labels"].items() if key != "tfx_py_version"}
    info = {
        key: value for key, value in root.items() if key in ("pipelineInfo", "schemaVersion", "sdkVersion")
    }
    return {**rest, **info, "containers": shared, "tasks": results}


def readable(key, constant):
    ((_, value),) = constant.items()
    if key in ("code", "source_digest"):
        return "<digest>"
    if isinstance(value, str) and value[:1] in "{[":
        value = json.loads(value)
        if key in ("custom_config", "eval_config", "settings") and "endpoint" not in str(value.get("folder")):
            return f"<{', '.join(sorted(value))}>"
    return json.loads(re.sub(r"-[0-9a-f]{12,16}\b", "-<digest>", json.dumps(value)))


def test_it_is_as_reviewed(compiled):
    """A changed spec is read by a user: `python -m tests.pipeline.test_vertex_compile` writes what is to be
    compared."""
    assert reviewable(compiled.spec) == json.loads(GOLDEN.read_text())


def test_it_is_valid_by_the_schema(compiled):
    """Unknown fields and wrong types are errors."""
    job = json_format.ParseDict(json.loads(compiled.to_json()), pipeline_spec_pb2.PipelineJob())
    spec = json_format.ParseDict(
        json_format.MessageToDict(job.pipeline_spec), pipeline_spec_pb2.PipelineSpec()
    )
    deployment = json_format.ParseDict(
        json_format.MessageToDict(spec.deployment_spec), pipeline_spec_pb2.PipelineDeploymentConfig()
    )
    assert set(spec.root.dag.tasks) == set(tasks(compiled))
    for task in spec.root.dag.tasks.values():
        component = spec.components[task.component_ref.name]
        assert component.executor_label in deployment.executors
        assert set(task.inputs.artifacts) == set(component.input_definitions.artifacts)
        assert set(task.inputs.parameters) == set(component.input_definitions.parameters)
        for given in task.inputs.artifacts.values():
            source = given.task_output_artifact
            producer = spec.components[spec.root.dag.tasks[source.producer_task].component_ref.name]
            assert source.output_artifact_key in producer.output_definitions.artifacts
            assert source.producer_task in task.dependent_tasks


def test_nothing_of_this_machine_is_in_it(compiled, folder):
    text = compiled.to_json()
    for trace in (str(folder), str(ROOT), sys.prefix, str(pathlib.Path.home()) + "/"):
        assert trace not in text
    paths = set(re.findall(r'(?<![\w:/])/[\w.-]+/[^"\\ ]*', text))
    assert {path for path in paths if not path.startswith("/gcs/shop-bucket/recommenders/shop/")} == set()


def test_every_class_that_a_container_is_told_to_load_is_there(compiled):
    for task in tasks(compiled):
        arguments = container(compiled, task)["args"]
        path = arguments[arguments.index("--executor_class_path") + 1]
        assert callable(import_utils.import_class_by_path(path).Do)
    titles = set(re.findall(r"title: (pipeline\.\w+)", compiled.to_json()))
    assert titles == {"pipeline.DataReport", "pipeline.TextVectors"}
    for title in titles:
        assert title == import_utils.import_class_by_path(title).TYPE_NAME


def test_two_compilations_are_the_same(compiled, config):
    assert compile_pipeline(config).to_json() == compiled.to_json()


def test_inputs_are_named_by_their_content(compiled, config, folder):
    targets = {upload.target.rsplit("/", 2)[-2].split("-")[0] for upload in compiled.uploads}
    assert targets == {"interactions", "items", "users", "encoder", "inputs"}
    tables = json.loads(parameter(compiled, "TablesExampleGen", "tables"))
    held = {upload.target for upload in compiled.uploads}
    assert {tables[name]["path"] for name in ("interactions", "items", "users")} <= held
    for name in ("InteractionsSchema", "ItemsSchema"):
        assert parameter(compiled, name, "schema_file") in held
    encoder = json.loads(parameter(compiled, "TextEmbeddings", "text"))["encoder"]
    assert "gs://" + encoder.removeprefix("/gcs/") + "/vocab.txt" in held
    other = folder / "other"
    other.mkdir()
    changed = dataclasses.replace(write_shop(other, people=41), vertex=VERTEX)
    again = json.loads(parameter(compile_pipeline(changed), "TablesExampleGen", "tables"))
    assert again["interactions"]["path"] != tables["interactions"]["path"]
    assert again["items"]["path"] == tables["items"]["path"]


def test_a_trainer_may_stay_in_its_own_container(config):
    plain = dataclasses.replace(VERTEX, training=None, dataflow=None, push="folder")
    compiled = compile_pipeline(dataclasses.replace(config, vertex=plain))
    arguments = container(compiled, "RetrievalTrainer")["args"]
    assert arguments[1] == "pipeline.components.trainer.Executor"
    assert container(compiled, "RetrievalPusher")["args"][1] == "pipeline.components.pusher.Executor"
    assert "--runner=DirectRunner" in container(compiled, "TablesExampleGen")["args"]


def test_the_shipped_configuration_compiles_from_both_entry_points(tmp_path, capsys):
    output = tmp_path / "spec.json"
    assert load_config("vertex_movielens_100k").vertex.region == "europe-west4"
    code = vertex_runner.main(["--config", "vertex_movielens_100k", "--output", str(output)])
    assert code == 0
    assert json.loads(output.read_text())["pipelineSpec"]["pipelineInfo"]["name"] == "movielens-100k"
    assert "24 steps" in capsys.readouterr().out


def test_without_a_ranking_model_nothing_of_it_is_compiled(config):
    results = set(tasks(compile_pipeline(dataclasses.replace(config, ranking=None))))
    assert not {name for name in results if name.startswith(("Ranking", "Recommender"))}
    assert "RetrievalPusher" in results


def test_names_that_vertex_does_not_take():
    assert legal_name("movielens_100k") == "movielens-100k"
    with pytest.raises(ConfigError, match="must be small letters"):
        legal_name("Shop")


def test_without_a_place_to_go(config):
    with pytest.raises(ConfigError, match="needs a key `vertex`"):
        compile_pipeline(dataclasses.replace(config, vertex=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"project": "My Project"}, "must be a project's id"),
        ({"region": "europe-west4-a"}, "must be a region such as europe-west4, not a zone"),
        ({"bucket": "shop-bucket"}, "must read gs://BUCKET"),
        ({"bucket": "gs://"}, "must read gs://BUCKET"),
        ({"endpoint": None}, "needs `vertex.endpoint`"),
    ],
)
def test_values_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(VERTEX, **changes)


def test_a_misspelt_key_is_told_the_nearest(tmp_path):
    text = (ROOT / "pipeline/config/vertex_movielens_100k.yaml").read_text()
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("max_workers", "max_worker"))
    with pytest.raises(ConfigError, match="`vertex.dataflow.max_worker`. Did you mean `max_workers`"):
        load_config(str(path))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        written = compile_pipeline(dataclasses.replace(write_shop(pathlib.Path(place)), vertex=VERTEX))
        GOLDEN.write_text(json.dumps(reviewable(written.spec), indent=1, sort_keys=True) + "\n")
