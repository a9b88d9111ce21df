"""The package import: the Keras 2 switch, and nothing heavy."""

import importlib.metadata
import subprocess
import sys


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_selects_keras_2_and_imports_nothing_heavy():
    heavy = ["tensorflow", "tf_keras", "numpy", "transformers", "tfx", "pandas"]
    out = run_python(
        "import sys, os, tfrec_fusion; "
        f"print([m for m in {heavy!r} if m in sys.modules], os.environ['TF_USE_LEGACY_KERAS'])"
    )
    assert out.split() == ["[]", "1"]


def test_each_distribution_claims_its_own_import_name_only():
    claimed = {
        name: importlib.metadata.distribution(name).read_text("top_level.txt").split()
        for name in ("tfrec-fusion", "tfrec-fusion-pipeline")
    }
    assert claimed == {"tfrec-fusion": ["tfrec_fusion"], "tfrec-fusion-pipeline": ["pipeline"]}
