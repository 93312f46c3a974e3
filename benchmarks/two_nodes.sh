#!/usr/bin/env bash
# Two nodes on one machine: two network namespaces with their own addresses, a virtual cable and a shared folder.
#
# Usage: benchmarks/two_nodes.sh      (as root; needs iproute2; leaves nothing behind)
#
# Tested: `torchrun --nnodes 2`, and `dvc repro` on the first node with `accelerate launch` on the second (both configured by
# `accelerate config`). Both must have the losses of one process. When the cable is cut during training, training must end on
# both nodes. The next start must finish with the same bytes.
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
    for node in "$A" "$B"; do
        ip netns pids "$node" | xargs --no-run-if-empty kill -KILL
        ip netns delete "$node" 2> /dev/null || true
    done
    rm -rf "$FOLDER"
}
trap clean EXIT
ip netns add "$B"
ip link add eth-a netns "$A" type veth peer name eth-b netns "$B"
for node in "a $IP_A" "b $IP_B"; do
    set -- $node
    ip -n "charlstm-$1" address add "$2/24" dev "eth-$1"
    ip -n "charlstm-$1" link set lo up
    ip -n "charlstm-$1" link set "eth-$1" up
done

export OMP_NUM_THREADS=1 MLFLOW_DISABLE_TELEMETRY=true CHARLSTM_TIMEOUT_SECONDS=10 CHARLSTM_CHECKPOINT_SECONDS=0.5
fail() { echo "FAILED: $1"; tail -n 30 "$FOLDER"/log-*; exit 1; }
on() { # a|b, command...: run the command in the project, in this node's network
    local node=$1
    shift
    cd "$PROJECT"
    GLOO_SOCKET_IFNAME=eth-$node exec ip netns exec "charlstm-$node" "$@" > "$FOLDER/log-eth-$node" 2>&1
}
torchrun_on() { # a|b, address, whether this node is the meeting place (both share one host name, so torchrun cannot tell)
    on "$1" python -m pipeline.launch torchrun --nnodes 2 --nproc_per_node 1 --rdzv-backend c10d \
        --rdzv-endpoint $IP_A:29501 --rdzv-id charlstm-two-nodes --local-addr "$2" \
        --rdzv-conf "is_host=$3" -m pipeline train
}
both() { # what is tested: train with torchrun on both nodes
    (torchrun_on a $IP_A 1) & FIRST=$!
    (torchrun_on b $IP_B 0) || fail "torchrun on the second node, $1"
    wait $FIRST || fail "torchrun on the first node, $1"
}
configure() { # rank; write the file that `accelerate config` writes
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
compare() { # folder, words; keep the results in the folder and compare their losses
    mv "$PROJECT/artifacts" "$FOLDER/$1" && rm -rf "$PROJECT/.charlstm"
    python -c "
import pandas as pd
expected, found = (pd.read_csv(f'$FOLDER/{name}/train/steps.csv')['train_nats_per_char'] for name in ('one', '$1'))
largest = ((found - expected).abs() / expected).max()
print(f'$2: {len(found)} steps, largest relative difference {largest:.1e} (limit 1e-9)')
assert len(found) == len(expected) >= 200 and largest <= 1e-9"
}

python -c "
from pathlib import Path
from tests.support.projects import make_encoded_project
override = {'train.precision': 'fp64', 'train.epochs': 6, 'train.early_stopping_epochs': None, 'train.batch_size': 5,
            'train.state_reset_probability': 0.1, 'train.muon.learning_rate': 0.01}
make_encoded_project(Path('$PROJECT'), override)
"
(cd "$PROJECT" && python -m pipeline train 2> "$FOLDER/log-one")
compare one "one process"

both "at first"
compare torchrun "torchrun --nnodes 2"

configure 0; configure 1
cp .gitignore .dvcignore "$PROJECT"
(cd "$PROJECT" && git init --quiet && dvc init --quiet && dvc repro --quiet encode)
(HF_HOME=$FOLDER/config-0 on a dvc repro --single-item train) & FIRST=$!
(HF_HOME=$FOLDER/config-1 on b accelerate launch -m pipeline train) || fail "accelerate launch next to dvc repro"
wait $FIRST || fail "dvc repro on the first node"
grep -q "2 process(es)" "$FOLDER/log-eth-a" || fail "dvc repro did not train with the second node"
compare dvc "dvc repro and accelerate launch"

rm "$FOLDER"/log-eth-?
(torchrun_on a $IP_A 1) & FIRST=$!
(torchrun_on b $IP_B 0) & SECOND=$!
until grep -qs "epoch 2/" "$FOLDER/log-eth-a"; do sleep 0.1; kill -0 $FIRST || fail "the first node ended early"; done
ip -n "$A" link set eth-a down
CUT=$SECONDS
CODE=0; wait $FIRST || CODE=$?
echo "cable cut in epoch 2: the first node ended after $((SECONDS - CUT)) s with exit code $CODE"
[ "$CODE" != 0 ] || fail "the first node has exit code 0"
until [ "$(ip netns pids "$B" | wc -l)" = 1 ]; do # its torchrun
    sleep 0.1; ((SECONDS - CUT < 60)) || fail "training continues on the second node"
done
kill -KILL $(ip netns pids "$B") # its torchrun waits for the first one as long as TCP does; `srun --wait` ends it like this
wait $SECOND || true
grep -h "ERROR: " "$FOLDER"/log-eth-? | cut -c 1-160
[ ! -e "$PROJECT/artifacts" ] || fail "an output was written"
ls -d "$PROJECT"/.charlstm/*/step-* > /dev/null || fail "there is no checkpoint"

ip -n "$A" link set eth-a up
both "after the cut"
grep -h "resuming from the checkpoint" "$FOLDER/log-eth-a" || fail "training did not resume from a checkpoint"
diff -r "$FOLDER/torchrun" "$PROJECT/artifacts" || fail "other bytes than without the cut"
echo "after the cut: the same bytes as without it"
