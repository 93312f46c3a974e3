#!/usr/bin/env bash
# Two nodes on one machine: two network namespaces with their own addresses, a virtual cable and a shared folder.
#
# Usage: benchmarks/two_nodes.sh      (as root; needs iproute2; leaves nothing behind)
#
# Tried: `torchrun --nnodes 2`, and `dvc repro` on the first node with `accelerate launch` on the second (both configured by
# `accelerate config`). Each must train to the losses of one process. When the cable is
# cut in the middle, training must end on both nodes. The next start must finish with the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
A=charlstm-a B=charlstm-b
IP_A=10.77.0.1 IP_B=10.77.0.2

skip() { echo "SKIPPED: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip > /dev/null || skip "there is no \`ip\` (Debian: iproute2)"
ip netns add "$A" 2> /dev/null || skip "network namespaces are not allowed here"

FOLDER=$(mktemp -d)
PROJECT=$FOLDER/project
clean() {
    for node in "$A" "$B"; do ip netns pids "$node" | xargs --no-run-if-empty kill -KILL; done
    ip netns delete "$A" 2> /dev/null || true
    ip netns delete "$B" 2> /dev/null || true
    rm -rf "$FOLDER"
}
trap clean EXIT
ip netns add "$B"
ip link add eth-a netns "$A" type veth peer name eth-b netns "$B"
ip -n "$A" address add $IP_A/24 dev eth-a
ip -n "$B" address add $IP_B/24 dev eth-b
for name in "$A eth-a" "$B eth-b"; do
    set -- $name
    ip -n "$1" link set lo up
    ip -n "$1" link set "$2" up
done

export OMP_NUM_THREADS=1 MLFLOW_DISABLE_TELEMETRY=true CHARLSTM_TIMEOUT_SECONDS=10 CHARLSTM_CHECKPOINT_SECONDS=0.5
on() { # node, rank, command...: in the project, by this node's network
    local node=$1 interface=$2
    shift 2
    (cd "$PROJECT" && GLOO_SOCKET_IFNAME=$interface exec ip netns exec "$node" "$@" > "$FOLDER/log-$interface" 2>&1)
}
configure() { # rank; what `accelerate config` writes
    mkdir -p "$FOLDER/config-$1/accelerate"
    cat > "$FOLDER/config-$1/accelerate/default_config.yaml" << CONFIG
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 2
num_processes: 2
machine_rank: $1
main_process_ip: $IP_A
main_process_port: 29502
mixed_precision: 'no'
rdzv_backend: static
same_network: true
use_cpu: false
CONFIG
}
torchrun_on() { # a|b, address, whether it is the meeting place (both share one host name here, so torchrun cannot tell)
    on "charlstm-$1" "eth-$1" python -m pipeline.launch torchrun --nnodes 2 --nproc_per_node 1 --rdzv-backend c10d \
        --rdzv-endpoint $IP_A:29501 --rdzv-id charlstm-two-nodes --local-addr "$2" \
        --rdzv-conf "is_host=$3" -m pipeline train
}
compare() { # folder, words
    python -c "
import pandas as pd
expected, found = (pd.read_csv(f'$FOLDER/{name}/train/steps.csv')['train_nats_per_char'] for name in ('one', '$1'))
largest = ((found - expected).abs() / expected).max()
print(f'$2: {len(found)} steps, largest relative difference {largest:.1e} (limit 1e-9)')
assert len(found) == len(expected) >= 200 and largest <= 1e-9"
}
fail() { echo "FAILED: $1"; tail -n 30 "$FOLDER"/log-*; exit 1; }

python -c "
from pathlib import Path
from tests.support.projects import make_encoded_project
override = {'train.precision': 'fp64', 'train.epochs': 6, 'train.early_stopping_epochs': None, 'train.batch_size': 5,
            'train.state_reset_probability': 0.1, 'train.muon.learning_rate': 0.01}
make_encoded_project(Path('$PROJECT'), override)
"
(cd "$PROJECT" && python -m pipeline train 2> "$FOLDER/log-one" && mv artifacts "$FOLDER/one" && rm -rf .charlstm)

torchrun_on a $IP_A 1 & FIRST=$!
torchrun_on b $IP_B 0 || fail "torchrun on the second node"
wait $FIRST || fail "torchrun on the first node"
mv "$PROJECT/artifacts" "$FOLDER/torchrun"; rm -rf "$PROJECT/.charlstm"
compare torchrun "torchrun --nnodes 2"

configure 0; configure 1
cp .gitignore .dvcignore "$PROJECT"
(cd "$PROJECT" && git init --quiet && dvc init --quiet && dvc repro --quiet encode)
HF_HOME=$FOLDER/config-0 on "$A" eth-a dvc repro --single-item train & FIRST=$!
HF_HOME=$FOLDER/config-1 on "$B" eth-b accelerate launch -m pipeline train || fail "accelerate launch next to dvc repro"
wait $FIRST || fail "dvc repro on the first node"
grep -q "2 process(es)" "$FOLDER/log-eth-a" || fail "dvc repro did not train with the second node"
mv "$PROJECT/artifacts" "$FOLDER/dvc"; rm -rf "$PROJECT/.charlstm"
compare dvc "dvc repro and accelerate launch"

rm "$FOLDER"/log-eth-?
torchrun_on a $IP_A 1 & FIRST=$!
torchrun_on b $IP_B 0 & SECOND=$!
until grep -qs "epoch 2/" "$FOLDER/log-eth-a"; do sleep 0.1; kill -0 $FIRST || fail "the first node ended early"; done
ip -n "$A" link set eth-a down
CUT=$SECONDS
CODE=0; wait $FIRST || CODE=$?
echo "cable cut in epoch 2: the first node ended after $((SECONDS - CUT)) s with exit code $CODE"
[ "$CODE" != 0 ] || fail "expected that it fails"
until [ "$(ip netns pids "$B" | wc -l)" = 1 ]; do # its torchrun
    sleep 0.1; ((SECONDS - CUT < 60)) || fail "training goes on on the second node"
done
pkill -KILL -f "local-addr $IP_B" # its torchrun waits for the first one, as long as TCP does; `srun --wait` ends it like this
wait $SECOND || true
grep -h "ERROR: " "$FOLDER"/log-eth-? | cut -c 1-160
[ ! -e "$PROJECT/artifacts" ] || fail "an output was written"
ls -d "$PROJECT"/.charlstm/*/step-* > /dev/null || fail "there is no checkpoint"

ip -n "$A" link set eth-a up
torchrun_on a $IP_A 1 & FIRST=$!
torchrun_on b $IP_B 0 || fail "torchrun on the second node, after the cut"
wait $FIRST || fail "torchrun on the first node, after the cut"
grep -h "resuming from the checkpoint" "$FOLDER/log-eth-a" || fail "it did not resume from a checkpoint"
diff -r "$FOLDER/torchrun" "$PROJECT/artifacts" || fail "other bytes than without the cut"
echo "after the cut: the same bytes as without it"
