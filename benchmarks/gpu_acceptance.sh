#!/usr/bin/env bash
# All that is to be seen of a GPU, for the documents: speed, kills, a process that fails, and warnings. In about 20 minutes.
#
# Usage: benchmarks/gpu_acceptance.sh [--device cuda|cpu]      cpu: the same, on the processor, to try it out
#
# Fails if a training that was killed does not end with the bytes of an undisturbed one (dropout on, one process and, where there
# are two GPUs, two); or if one of two processes raises an error and they are not both gone, with its reason, after two minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
DEVICE=cuda
[ "${1:-}" = --device ] && DEVICE=$2
[ "$DEVICE" = cpu ] && export CUDA_VISIBLE_DEVICES=
export PYTHONPATH=$PWD MLFLOW_DISABLE_TELEMETRY=true
checkout=$PWD folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

dvc repro --quiet encode
python -m benchmarks.training --device "$DEVICE"
python -m benchmarks.kills --count "${KILLS:-20}" --seed 0
python -c "
from pathlib import Path
from tests.support.projects import make_encoded_project
make_encoded_project(Path('$folder/project'), {'train.precision': 'bf16', 'train.epochs': 3})"
cd "$folder/project"
if [ "$DEVICE" = cpu ] || [ "$(python -c 'import torch; print(torch.cuda.device_count())')" -ge 2 ]; then
    code=0 SECONDS=0
    FAULT=defect timeout 120 torchrun --nproc_per_node 2 "$checkout/tests/support/faulty.py" 1 20 2> "$folder/log" || code=$?
    echo "one of two processes raised: exit code $code after $SECONDS s, with the start"
    grep -q "ValueError: in the middle of a step" "$folder/log" && [ "$code" != 0 ] && [ "$code" != 124 ] || { cat "$folder/log"; exit 1; }
fi
PYTHONWARNINGS=always python -m pipeline.train 2> "$folder/log"
echo "lines of a training in bf16 that have a warning:"
grep -i warning "$folder/log" || echo none
python -m pipeline.cli doctor
