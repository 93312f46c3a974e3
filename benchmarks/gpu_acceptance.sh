#!/usr/bin/env bash
# All that is to be seen of a GPU, for the documents: speed, kills, a process that fails, and warnings. In about 20 minutes.
#
# Usage: benchmarks/gpu_acceptance.sh [--device cuda|cpu]      cpu: the same, on the processor, to try it out
#
# Fails if a training that was killed does not end with the bytes of an undisturbed one (dropout on, one process and, where there
# are two GPUs, two); or if one of two processes raises an error and they are not both gone, with its reason, after a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
DEVICE=cuda
[ "${1:-}" = --device ] && DEVICE=$2
[ "$DEVICE" = cpu ] && export CUDA_VISIBLE_DEVICES=
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

dvc repro --quiet encode
python -m benchmarks.training --device "$DEVICE"
echo
python -m benchmarks.kills --count "${KILLS:-20}" --seed 0
echo

cat > "$folder/raises.py" <<'END'
import os, sys
from charlstm.training.learner import Learner
from pipeline import train
from pipeline.stage import stage

take_step = Learner.take_step

def raise_in_step_20(learner, step, *rest):
    if step == 20 and os.environ["RANK"] == "1":
        raise RuntimeError("as it was told to")
    return take_step(learner, step, *rest)

Learner.take_step = raise_in_step_20
sys.exit(stage.run(train.run, []))
END
python -c "
from pathlib import Path
from benchmarks.projects import make_encoded_project
make_encoded_project(Path('$folder/project'), {'train.precision': 'bf16', 'train.epochs': 3})"
checkout=$PWD
cd "$folder/project"
export PYTHONPATH=$checkout MLFLOW_DISABLE_TELEMETRY=true
if [ "$DEVICE" = cpu ] || [ "$(python -c 'import torch; print(torch.cuda.device_count())')" -ge 2 ]; then
  SECONDS=0
  if timeout 120 torchrun --nproc_per_node 2 "$folder/raises.py" 2> "$folder/log"; then code=0; else code=$?; fi
  echo "one of two processes raised: exit code $code after $SECONDS s, with the start"
  if [ "$code" = 0 ] || [ "$code" = 124 ] || ! grep -q "RuntimeError: as it was told to" "$folder/log"; then
    cat "$folder/log" >&2
    exit 1
  fi
fi
PYTHONWARNINGS=always python -m pipeline.train 2> "$folder/log"
echo "$(grep -ci warning "$folder/log" || true) lines of a training in bf16 have a warning:"
grep -i warning "$folder/log" || true
cd "$checkout"
echo
python -m pipeline.cli doctor
