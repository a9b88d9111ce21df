"""Public names that nothing but tests uses: each is listed with its reason, and no other exists."""

import fnmatch

from tools.house import ROOT, unused_names

BEAM = "Beam calls a CombineFn's methods"
KERAS = "Keras calls it"
TFX = "TFX calls it by a dotted string"
OBJECTIVES = "several objectives and the classifier: the configuration will reach them"
ALLOWED = {
    "pipeline/callbacks/index_update.py:build_retrieval": TFX,
    "pipeline/cli/command.py:Group.format_commands": "click calls it",
    "pipeline/callbacks/preprocessing.py:interactions_preprocessing_fn": TFX,
    "pipeline/callbacks/preprocessing.py:items_preprocessing_fn": TFX,
    "pipeline/callbacks/training.py:run_ranking": TFX,
    "pipeline/callbacks/training.py:run_retrieval": TFX,
    "pipeline/components/resolver.py:LatestOtherBlessedModelStrategy.resolve_artifacts": "TFX calls it",
    "pipeline/config/terminal.py:Guarded.writelines": "whoever prints calls it",
    "pipeline/evaluation/ranking.py:RankingCombiner.add_input": BEAM,
    "pipeline/evaluation/ranking.py:RankingCombiner.extract_output": BEAM,
    "pipeline/evaluation/ranking.py:RankingCombiner.merge_accumulators": BEAM,
    "pipeline/evaluation/retrieval.py:RetrievalCombiner.add_input": BEAM,
    "pipeline/evaluation/retrieval.py:RetrievalCombiner.extract_output": BEAM,
    "pipeline/evaluation/retrieval.py:RetrievalCombiner.merge_accumulators": BEAM,
    "tfrec_fusion/export/request.py:EXPLAINED": "the reference page is held to it (tests/test_docs.py)",
    "tfrec_fusion/index/brute_force.py:BruteForce.is_exact": "part of TFRS's interface",
    "tfrec_fusion/index/inverted_file.py:InvertedFile.is_exact": "part of TFRS's interface",
    "tfrec_fusion/index/top_k_index.py:TopKIndex.build_from_config": KERAS,
    "tfrec_fusion/index/top_k_index.py:TopKIndex.get_build_config": KERAS,
    "tfrec_fusion/index/top_k_index.py:TopKIndex.load_own_variables": KERAS,
    "tfrec_fusion/index/top_k_index.py:TopKIndex.query_with_exclusions": "part of TFRS's interface",
    "tfrec_fusion/index/top_k_index.py:TopKIndex.save_own_variables": KERAS,
    "tfrec_fusion/layers/sequence.py:HistoryEncoder.compute_mask": KERAS,
    "tfrec_fusion/layers/text_encoder.py:TextEncoder.non_trainable_weights": KERAS,
    "tfrec_fusion/serving/server/http_reading.py:RequestReader.*": "asyncio and httptools call them",
}


def test_every_public_name_has_a_use_or_a_reason():
    """Not listed: give it a use, a document or an underscore, or remove it. Used: drop the line."""
    unused = unused_names(ROOT)
    assert [name for name in unused if not any(fnmatch.fnmatch(name, one) for one in ALLOWED)] == []
    assert [one for one in ALLOWED if not fnmatch.filter(unused, one)] == []


def test_a_name_without_use_is_noticed(tmp_path):
    for folder, text in {
        "tfrec_fusion": "__all__ = ['lonely']\n\n\ndef lonely():\n    return helper()\n\n\ndef helper():"
        " ...\n",
        "pipeline": "class Shown:\n    def unseen(self): ...\n",
        "docs": "",
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text(text)
    (tmp_path / "docs" / "page.md").write_text(
        "Take `pipeline.module.Shown`; unseen lonely words are no use."
    )
    assert unused_names(tmp_path) == ["pipeline/module.py:Shown.unseen", "tfrec_fusion/module.py:lonely"]
