#!/usr/bin/env bash
# A real Slurm cluster of two nodes on this machine: does the shipped job survive a preemption, with the same bytes?
#
# Usage: benchmarks/slurm.sh      (needs slurmctld, slurmd, sbatch and munged; Debian: slurm-wlm, munge)
#
# Starts munged, slurmctld and two slurmd of its own on unprivileged ports. Submits cluster/charlstm.sbatch, sends it SIGTERM
# in the middle, waits until it has run again, and compares the result with that of an undisturbed training.
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "SKIPPED: $1"; exit 0; }
for program in slurmctld slurmd sbatch munged mungekey; do
    PATH=$PATH:/usr/sbin command -v $program > /dev/null || skip "there is no \`$program\` (Debian: slurm-wlm, munge)"
done
PATH=$PATH:/usr/sbin

FOLDER=$(mktemp -d)
chmod 755 "$FOLDER"
PROJECT=$FOLDER/project
export SLURM_CONF=$FOLDER/slurm.conf
clean() {
    scancel --user "$(id -un)" 2> /dev/null || true
    for name in slurmctld slurmd-one slurmd-two munged; do
        kill "$(cat "$FOLDER/$name.pid" 2> /dev/null)" 2> /dev/null || true
    done
    sleep 1
    pkill -KILL -f "$FOLDER" || true
    rm -rf "$FOLDER"
}
trap clean EXIT
fail() { echo "FAILED: $1"; scontrol show job 2> /dev/null | grep -E "JobId|State|ExitCode"; tail -n 25 "$PROJECT"/charlstm-*.log "$FOLDER"/*.log 2> /dev/null; exit 1; }

mungekey --create --keyfile "$FOLDER/munge.key"
munged --force --key-file "$FOLDER/munge.key" --socket "$FOLDER/munge.socket" --pid-file "$FOLDER/munged.pid" \
    --log-file "$FOLDER/munged.log" --seed-file "$FOLDER/munged.seed" --num-threads 2
cat > "$SLURM_CONF" << CONF
ClusterName=charlstm
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=26817
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool-%n
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd-%n.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd-%n.log
ReturnToService=2
KillWait=30
NodeName=one,two NodeHostname=localhost NodeAddr=127.0.0.1 Port=[26818-26819] CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
echo "CgroupPlugin=disabled" > "$FOLDER/cgroup.conf"
mkdir -p "$FOLDER/state" "$FOLDER/spool-one" "$FOLDER/spool-two"
slurmctld || fail "slurmctld"
for node in one two; do slurmd -N $node || fail "slurmd on node $node"; done
for _ in $(seq 60); do [ "$(sinfo --noheader --states=idle --format=%D 2> /dev/null)" = 2 ] && break; sleep 1; done
[ "$(sinfo --noheader --states=idle --format=%D)" = 2 ] || fail "the nodes did not come up"

export OMP_NUM_THREADS=1 MLFLOW_DISABLE_TELEMETRY=true DVC_NO_ANALYTICS=true CHARLSTM_CHECKPOINT_SECONDS=1
export CHARLSTM_HEAD=127.0.0.1 # only Slurm knows the nodes' names here
python -c "
from pathlib import Path
from tests.support.projects import make_project
make_project(Path('$PROJECT'), {'train.epochs': 12, 'train.early_stopping_epochs': None})
"
cp -r cluster .gitignore .dvcignore "$PROJECT"
cd "$PROJECT"
git init --quiet && dvc init --quiet

submit_and_wait() { # what to do once it trains, where the results go
    rm -rf .charlstm artifacts dvc.lock charlstm-*.log
    JOB=$(sbatch --parsable cluster/charlstm.sbatch)
    until grep -qs "epoch 3/" "charlstm-$JOB.log"; do
        sleep 0.2
        squeue --noheader --job "$JOB" | grep -q . || fail "job $JOB ended early"
    done
    $1
    local seconds=0 ended=0 # a job that is being queued again looks ended for a moment
    while [ $ended -lt 5 ]; do
        case "$(scontrol show job "$JOB" | grep -o 'JobState=[A-Z]*')" in
            # one that was queued again waits two minutes by Slurm's default; here a few seconds are enough
            JobState=PENDING) ended=0; sleep 4; scontrol update JobId="$JOB" StartTime=now 2> /dev/null || true ;;
            JobState=COMPLETED | JobState=FAILED | JobState=CANCELLED) ended=$((ended + 1)) ;;
            *) ended=0 ;;
        esac
        sleep 1
        seconds=$((seconds + 1))
        [ $seconds -lt 600 ] || fail "job $JOB did not end"
    done
    grep -qs "^  sample:" dvc.lock || fail "job $JOB did not get to the last stage"
    mkdir "$FOLDER/$2"
    cp -r artifacts/model artifacts/train "$FOLDER/$2"
}
preempt() {
    scancel --signal=TERM "$JOB"
    STARTED=$SECONDS
    until [ "$(squeue --noheader --job "$JOB" --format=%T)" != RUNNING ]; do sleep 0.2; done
    echo "SIGTERM in epoch 3: saved and queued again after $((SECONDS - STARTED)) s"
}

check() { # that the job which was disturbed in this way was restarted once, with the same bytes
    local restarts
    restarts=$(scontrol show job "$JOB" | grep -o 'Restarts=[0-9]*')
    echo "$1: job $JOB, $restarts, $(grep -o 'resuming from the checkpoint of step .*' "charlstm-$JOB.log")"
    [ "$restarts" = "Restarts=1" ] || fail "expected one restart"
    diff -r "$FOLDER/alone" "$FOLDER/$1" || fail "other bytes than without it"
    dvc status | grep -q "up to date" || fail "DVC does not know the result"
    echo "the same bytes; $(dvc status)"
}

submit_and_wait true alone
submit_and_wait preempt preempted
check preempted
