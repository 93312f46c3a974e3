#!/usr/bin/env bash
# Parts of a test on GPUs. Each part takes at most eight minutes.
#
# Usage: benchmarks/gpu_acceptance.sh PART... [--device cuda|cpu]
#
#   speed     steps per second of all sizes and variants, beside bare calls of `nn.LSTM`
#   kills     SIGKILL at random moments, with 320 units in precision auto: the same bytes afterwards
#   faults    one of two processes fails in every way and phase: both end, with the reason
#   worlds    1, 2 and more processes, and a resumed training: the same losses
#   profile   a trace of 20 steps, and the ten longest gaps in it
#
# Without a part, all run. `--device cpu` runs a part on the processor, to try it out.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=$PWD MLFLOW_DISABLE_TELEMETRY=true

device=cuda
parts=()
while [ $# -gt 0 ]; do
    if [ "$1" = --device ]; then
        device=$2
        shift
    else
        parts+=("$1")
    fi
    shift
done
if [ "$device" = cpu ]; then
    export CUDA_VISIBLE_DEVICES=
fi
[ -f Datasets/encoded/train.npy ] || dvc repro --quiet encode

[ ${#parts[@]} -gt 0 ] || parts=(speed kills faults worlds profile)

for part in "${parts[@]}"; do
    echo "## $part"
    began=$SECONDS
    case $part in
    speed) python -m benchmarks.training --device "$device" ;;
    kills) python -m benchmarks.kills --count 15 --units 320 ;;
    faults) python -m benchmarks.faults ;;
    worlds) python -m benchmarks.worlds --short ;;
    profile) python -m benchmarks.profile_steps --device "$device" ;;
    *)
        echo "$part: expected speed, kills, faults, worlds or profile" >&2
        exit 2
        ;;
    esac
    echo "$part took $((SECONDS - began)) s"
done
