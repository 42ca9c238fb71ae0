#!/usr/bin/env bash
# Workers: each task of the array is one worker with one GPU. They may start before the run, and join and leave later.
#
#     export STORAGE='postgresql://me:secret@host/searches'
#     sbatch --array=1-8 examples/cluster/slurm_workers.sh
#
# An argument names the queue if several runs use the storage: slurm_workers.sh cluster-1/queue
#SBATCH --job-name=automl-workers
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=automl-worker-%A_%a.log
set -euo pipefail
: "${STORAGE:?set STORAGE to the URL of the Optuna storage}"
queue=(${1:+--study "$1"})

# The worker replaces ${STORAGE} itself, so that no list of processes shows the password. A minute before the time limit
# it receives SIGTERM and returns its evaluation, which another one repeats.
# shellcheck disable=SC2016
exec srun automl-nas worker '${STORAGE}' "${queue[@]}" --threads "${SLURM_CPUS_PER_TASK:-1}" --wait 86400 --idle 900
