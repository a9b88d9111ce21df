"""What the library shows to users who import it, and what importing each module costs."""

import importlib
import json
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import tfrec_fusion

ROOT = pathlib.Path(tfrec_fusion.__file__).parent
ROOMS = [
    "datasets",
    "enrichment",
    "experiments",
    "export",
    "features",
    "guessing",
    "index",
    "layers",
    "metrics",
    "models",
    "serving",
    "training",
]
SINGLE = [
    "config",
    "errors",
    "export.base",
    "export.evaluated",
    "export.parts",
    "export.ranking",
    "export.recommender",
    "export.request",
    "export.retrieval",
    "export.saving",
    "files",
    "recommender",
    "layers.replicas",
    "losses",
    "naming",
    "tasks",
    "training.cluster",
    "training.fitting",
    "training.negatives",
    "training.pretraining",
    "training.recipes",
    "training.refitting",
    "training.solved_parts",
]

# What the modules may add to what those above them needed. TensorFlow brings pandas and SciPy along by
# itself.
NUMBERS = ["numpy", "scipy", "pandas", "pyarrow", "sklearn", "implicit", "matplotlib"]
TENSORFLOW = ["tensorflow", "tensorflow_serving", "tensorflow_text", "tensorflow_recommenders", "grpc"]
HEAVY = [*NUMBERS, *TENSORFLOW, "transformers", "huggingface_hub", "torch", "tfx", "apache_beam"]
COSTS = {
    "": (
        """experiments experiments.assignment experiments.checks
        export.compacting layers.backbones layers.backbones.architecture layers.backbones.bert_families
        layers.backbones.decoder_families layers.backbones.families layers.backbones.family layers.backbones.rotary_families
        layers.blank_texts
        classifier config.classifier config.preparation config.privacy config.recommender in_memory recommender features features.columns guessing guessing.column_names guessing.headers guessing.ledger
        experiments.sequential config errors config.enrichment config.layer_names config.models config.pretrained config.reading files datasets datasets.csv_format datasets.edges datasets.encodings datasets.files datasets.list_cells datasets.media datasets.media_files datasets.media_forms datasets.splits datasets.tables export models.hybrid serving.client serving.protocol serving.server training training.privacy training.privacy.accounting training.privacy.report training.progress datasets.storage index layers layers.packaged_weights layers.pretrained layers.sentence_modules guessing.languages layers.tokenizers layers.tokenizers.bert_characters layers.tokenizers.builtin
        layers.tokenizers.token_files layers.tokenizers.unsupported layers.tokenizers.wordpiece_files lazy metrics models serving
        serving.client.addresses serving.client.answers serving.client.calls serving.client.client serving.client.columns serving.client.errors
        serving.client.explanations serving.client.sentences
        serving.client.http_connections serving.client.rest_transport serving.client.retries serving.client.signatures
        serving.client.transport serving.client.values serving.client.vertex_transport serving.child_process export.quotas export.request
        serving.server.http_messages serving.server.http_reading serving.server.json_reader serving.server.json_numbers serving.server.json_text serving.launcher
        serving.server.monitoring serving.protocol.serving_protos serving.protocol.status serving.protocol.version naming training.history
        serving.server.deadline serving.server.inline_costs serving.server.json_size serving.server.limits
        serving.page serving.page.contract serving.page.guard serving.page.pictures serving.page.server
        impressions impressions.contract impressions.log impressions.private_lines impressions.pseudonyms
        enrichment enrichment.answers enrichment.budget enrichment.endpoint enrichment.prompts enrichment.reranking
        enrichment.templates enrichment.verdicts
        serving.server.impressions serving.server.wire"""
    ),
    "numpy": (
        """experiments.exploring experiments.interleaving experiments.off_policy layers.backbones.weight_files models.hybrid.blend_weights
        features.media_vectors features.text_vectors layers.torch_files export.evaluated datasets.synthetic index.kmeans index.vector_files metrics.accuracy metrics.beyond_accuracy metrics.bootstrap
        metrics.classification metrics.pointwise metrics.ranks models.catalogue models.rating_biases models.user_profiles serving.server.json_tensors serving.server.json_writer
        serving.server.request_log"""
    ),
    "scipy": "experiments.comparing experiments.planning experiments.preferences experiments.sample_ratio models.baselines models.hybrid.blend_solving models.hybrid.estimators models.hybrid.rating_solving",
    "pyarrow": (
        """datasets.byte_streams datasets.cells datasets.dialect datasets.ids datasets.json_rows
        datasets.digests datasets.markup datasets.reading datasets.records guessing.table_files impressions.schema"""
    ),
    "pandas": (
        """experiments.interleaved_lists experiments.outcome_files experiments.outcomes experiments.results features.rows in_memory.given_tables
        features.node_vectors features.reviews features.whole_tables enrichment.asking enrichment.subjects
        guessing.choice_columns guessing.column_profiles guessing.combined_tables guessing.entity_columns guessing.folder guessing.header_names
        guessing.id_columns guessing.id_writing guessing.other_forms guessing.popularity guessing.table_profiles guessing.time_columns
        guessing.media_columns guessing.unused_columns guessing.value_shapes
        datasets.edge_lists datasets.scenarios datasets.events datasets.friends datasets.joining datasets.movielens datasets.settling datasets.times
        datasets.impressions datasets.values impressions.collecting impressions.erasing"""
    ),
    "tensorflow": (
        """layers.backbones.attention layers.backbones.block layers.backbones.loading layers.backbones.norms
        layers.backbones.parts layers.backbones.positions layers.backbones.transformer layers.pooling layers.prompts
        features.graph features.labelled_texts features.interaction_arrays features.item_arrays features.padding features.preparing
        features.statistics training.batches
        training.cluster training.negatives training.privacy.user_batches index.item_filter layers.bulk_encoding layers.candidate_attention layers.experts layers.fusion layers.input_checks layers.layerwise_decay layers.lora layers.micro_batching layers.propagation layers.efficientnet layers.image_patterns layers.log_mel features.media_decoding features.media_encoders
        models.contributions models.query_sources layers.stateless_random layers.category_rules layers.greedy layers.reranking
        layers.sequence layers.text_adaptor layers.text_encoder layers.ngram_encoder layers.tokenizers.added_tokens layers.tokenizers.base
        layers.tokenizers.regexes layers.tokenizers.strings losses models.hybrid.blend models.hybrid.repeats export.judging models.xla_ops models.own_layers
        models.item_reviews models.item_text models.served_baseline models.hybrid.rating_factors models.design_matrix
        models.tower models.candidates models.dislikes models.list_terms models.next_items models.windows training.averaging training.sequences layers.replicas export.saving serving.server.batching
        serving.server.inference serving.server.json_examples serving.server.session serving.protocol.tensor_protos
        serving.server.version_folders serving.server.admission"""
    ),
    "tensorflow_text": (
        """layers.tokenizers.charsmap layers.tokenizers.loading layers.tokenizers.merges layers.tokenizers.sentencepiece
        layers.tokenizers.ngrams layers.tokenizers.steps layers.tokenizers.subword layers.tokenizers.subword_files layers.tokenizers.wordpiece"""
    ),
    "tensorflow_recommenders": (
        """export.base export.list_rules export.explained_recommender export.explained_retrieval export.explaining export.similar export.words
        export.classifying export.ranking export.retrieval index.brute_force index.build index.inverted_file index.top_k_index
        layers.interaction models.base models.bert_recommender models.build models.warm_starting models.heads
        models.label_gradients models.multitask models.new_items models.pretraining models.ranking models.ranking_contributions models.two_tower export.recommender training.steps tasks training.fitting
        models.hybrid.blend_fitting models.hybrid.blend_rows models.hybrid.choosing models.hybrid.side_regression
        models.hybrid.repeat_fitting export.repeated models.hybrid.rating_fitting export.parts in_memory.classifying in_memory.comparing in_memory.drift in_memory.figures in_memory.fitted in_memory.pretraining in_memory.requests in_memory.storage in_memory.updating
        models.private_parts training.privacy.fitting training.privacy.gradients
        training.classifying training.pretraining training.recipes training.refitting training.solved_parts"""
    ),
    "tensorflow_serving": (
        """serving.client.in_process serving.client.predict_messages serving.server.config_file serving.server.flags serving.server.proto_inference serving.server.rest_handler
        serving.server.http_connection serving.server.interleaved serving.server.rest_server serving.server.trials serving.server.versions serving.server.warmup serving.server.reload_rules"""
    ),
    "grpc": (
        "serving.server.__main__ serving.client.grpc_transport serving.server.grpc_health"
        " serving.server.grpc_service serving.server.embedded"
    ),
}


def modules() -> list[str]:
    result = pkgutil.walk_packages([str(ROOT)], "tfrec_fusion.")
    return [module.name.removeprefix("tfrec_fusion.") for module in result]


def test_every_module_says_what_it_costs():
    listed = [name for names in COSTS.values() for name in names.split()]
    assert sorted(listed) == sorted(modules())


def test_importing_a_module_costs_no_more_than_it_needs():
    """One process imports the cheapest first: what is there after a stage, one of its modules brought."""
    code = f"""
import importlib, json, sys
seen = {{}}
for cost, names in {COSTS!r}.items():
    for name in names.split():
        importlib.import_module("tfrec_fusion." + name)
    seen[cost] = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps(seen))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    allowed: set[str] = set()
    for cost, seen in json.loads(done.stdout.splitlines()[-1]).items():
        allowed |= {cost} - {""}
        assert set(seen) == allowed, f"after the modules that need {cost or 'nothing'}"


@pytest.mark.parametrize("room", ROOMS)
def test_listed_names_are_there_and_no_others(room):
    package = importlib.import_module(f"tfrec_fusion.{room}")
    for name in package.__all__:
        value = getattr(package, name)
        assert name == "METRICS" or value.__doc__, f"{name} has no docstring"
        assert name in dir(package)
    space: dict = {}
    exec(f"from tfrec_fusion.{room} import *", space)
    assert set(space) - {"__builtins__"} == set(package.__all__)
    with pytest.raises(AttributeError, match=f"tfrec_fusion.{room}' has no attribute 'Nothing'"):
        _ = package.Nothing


@pytest.mark.parametrize("room", ROOMS)
def test_no_name_is_hidden_by_a_module_of_that_name(room):
    """`from package import name` would give one or the other, by what was imported before."""
    package = importlib.import_module(f"tfrec_fusion.{room}")
    assert not set(package.__all__) & {module.name for module in pkgutil.iter_modules(package.__path__)}


@pytest.mark.parametrize("name", SINGLE)
def test_modules_list_what_they_define(name):
    module = importlib.import_module(f"tfrec_fusion.{name}")
    assert module.__all__ and all(hasattr(module, listed) for listed in module.__all__)


@pytest.mark.slow
def test_type_checkers_see_the_names(tmp_path):
    (tmp_path / "asks.py").write_text(
        "from tfrec_fusion.layers import GatedFusion, GatedFuzion\nfrom tfrec_fusion.index import"
        " BruteForce\nreveal_type(GatedFusion(dim=3))\nreveal_type(BruteForce())\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT.parent / "pyproject.toml"), "asks.py"]
    environment = {"MYPYPATH": str(ROOT.parent), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert '"tfrec_fusion.layers" has no attribute "GatedFuzion"' in done.stdout
    assert 'is "tfrec_fusion.layers.fusion.GatedFusion"' in done.stdout
    assert 'is "tfrec_fusion.index.brute_force.BruteForce"' in done.stdout
