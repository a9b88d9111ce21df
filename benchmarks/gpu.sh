#!/usr/bin/env bash
# Trains on whatever accelerator is here and prints examples a second, how busy the device was, its memory, and whether
# losses agree with the CPU's. Without an accelerator it says so and runs the CPU's half.
#
#   benchmarks/gpu.sh [--seconds 10] [--json FILE]     PYTHON=... chooses another interpreter than .venv's
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
if ! command -v "$PYTHON" >/dev/null; then
  echo "gpu.sh: no interpreter at $PYTHON. Run \`make setup\`, or set PYTHON to one that has the packages." >&2
  exit 2
fi
export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-2} TF_FORCE_GPU_ALLOW_GROWTH=true
# CUDA's libraries may have come as packages (`pip install tensorflow[and-cuda]`); TensorFlow finds them by itself.
if command -v nvidia-smi >/dev/null && nvidia-smi -L; then
  nvidia-smi --query-gpu=driver_version,memory.total --format=csv,noheader
else
  echo "gpu.sh: no NVIDIA driver answers here."
fi
exec "$PYTHON" -m benchmarks.accelerator "$@"
