"""Top-k indexes over candidate embeddings in plain TensorFlow ops.

`build_index` chooses and tunes one by the catalogue's size; `BruteForce` is exact, `InvertedFile` reads
only the cells nearest to a query.
"""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "BruteForce",
    "CategoryFilter",
    "InvertedFile",
    "TopKIndex",
    "VectorFiles",
    "build_index",
    "measure_recall",
]

if TYPE_CHECKING:
    from tfrec_fusion.index.brute_force import BruteForce
    from tfrec_fusion.index.build import build_index, measure_recall
    from tfrec_fusion.index.inverted_file import InvertedFile
    from tfrec_fusion.index.item_filter import CategoryFilter
    from tfrec_fusion.index.top_k_index import TopKIndex
    from tfrec_fusion.index.vector_files import VectorFiles
else:
    __getattr__, __dir__ = lazy_names(__name__)
