"""Packaging of the TFX pipeline and its command `tfrec`: a distribution of its own beside the library's.

The library's wheel must not claim the import name `pipeline` in environments that only want its layers.
`pip install . ./pipeline` in the checkout's root installs both.
"""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).resolve().parent.parent
(VERSION,) = re.findall(r'__version__ = "(.+?)"', (ROOT / "tfrec_fusion/__init__.py").read_text("utf-8"))

setup(
    name="tfrec-fusion-pipeline",
    version=VERSION,
    description="The TFX pipeline of tfrec-fusion, and the command tfrec.",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    package_dir={"pipeline": "."},
    packages=["pipeline", *(f"pipeline.{name}" for name in find_packages("."))],
    package_data={"pipeline": ["config/*.yaml", "report/*.html"]},
    install_requires=[f"tfrec-fusion[pipeline]=={VERSION}"],
    extras_require={"vertex": [f"tfrec-fusion[vertex]=={VERSION}"]},
    entry_points={"console_scripts": ["tfrec = pipeline.cli.__main__:entry"]},
    # Beside the checkout's other build products: `code_digest` reads every source below `pipeline`.
    options={"egg_info": {"egg_base": str(ROOT)}, "build": {"build_base": str(ROOT / "build" / "pipeline")}},
)
