"""The release of TF Serving that the embedded server answers as, and that the launcher runs in Docker."""

EMULATED = "2.19.1"
"""Each message, status and header is held against the sources of this tag
(`tests/serving/test_contract.py`)."""

IMAGE = f"tensorflow/serving:{EMULATED}"
"""The Docker image of that release."""
