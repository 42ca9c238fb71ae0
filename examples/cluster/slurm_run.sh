#!/usr/bin/env bash
# The run: it proposes candidates and records their trials, and trains nothing itself, so it needs no GPU.
#
#     export STORAGE='postgresql://me:secret@host/searches'
#     sbatch examples/cluster/slurm_run.sh examples/cluster/search.yaml runs/cluster-1
#
# The same command continues a run that was stopped by its time limit, killed or preempted.
#SBATCH --job-name=automl-run
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=automl-run-%j.log
set -euo pipefail
: "${STORAGE:?set STORAGE to the URL of the Optuna storage}"
config=${1:?usage: sbatch slurm_run.sh CONFIG RUN}
run=${2:?usage: sbatch slurm_run.sh CONFIG RUN}

# exec: the signal two minutes before the time limit reaches the run, which stops at the next safe point.
if [ -e "$run/config.yaml" ]; then
  exec automl-nas resume "$run"
fi
exec automl-nas run "$config" --out "$run"
