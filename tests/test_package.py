"""The package import: the Keras 2 switch, and nothing heavy."""

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
