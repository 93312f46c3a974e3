#!/usr/bin/env bash
# Parts of a test on GPUs. Each part takes at most eight minutes.
#
# Usage: benchmarks/gpu_acceptance.sh PART... [--device cuda|cpu]
#
#   speed     characters per second of all sizes and variants, beside bare calls of `nn.LSTM`
#   kills     SIGKILL at random moments, with 320 units in precision auto: the same bytes afterwards
#   worlds    one and more processes, one for each GPU, and resumed runs: the same losses
#
# Without a part, all run. `--device cpu` runs a part on the processor, to try it out.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD MLFLOW_DISABLE_TELEMETRY=true

device=cuda
parts=()
while [ $# -gt 0 ]; do
    case $1 in
    --device) device=$2 && shift ;;
    speed | kills | worlds) parts+=("$1") ;;
    *) echo "$1: unknown part; parts are speed, kills and worlds" >&2 && exit 2 ;;
    esac
    shift
done
short=()
if [ "$device" = cpu ]; then
    export CUDA_VISIBLE_DEVICES=
    short=(--short)
fi
[ -f Datasets/encoded/train.npy ] || dvc repro --quiet encode

[ ${#parts[@]} -gt 0 ] || parts=(speed kills worlds)

for part in "${parts[@]}"; do
    echo "## $part"
    began=$SECONDS
    case $part in
    speed) python -m benchmarks.training --device "$device" ;;
    kills) python -m benchmarks.kills --count 15 --units 320 ;;
    worlds) python -m benchmarks.worlds "${short[@]}" ;;
    esac
    echo "$part took $((SECONDS - began)) s"
done
