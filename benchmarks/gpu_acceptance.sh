#!/usr/bin/env bash
# All that is to be seen of a GPU, for the documents: speed and kills. In about 20 minutes.
#
# Usage: benchmarks/gpu_acceptance.sh [--device cuda|cpu]      cpu: the same, on the processor, to try it out
#
# Fails if a training that was killed does not end with the bytes of an undisturbed one (dropout on, one process and, where there
# are two GPUs, two).
set -euo pipefail
cd "$(dirname "$0")/.."
DEVICE=cuda
[ "${1:-}" = --device ] && DEVICE=$2
[ "$DEVICE" = cpu ] && export CUDA_VISIBLE_DEVICES=

dvc repro --quiet encode
python -m benchmarks.gpu --device "$DEVICE"
echo
python -m benchmarks.kills --count "${KILLS:-20}" --seed 0
echo
python -m pipeline.cli doctor
