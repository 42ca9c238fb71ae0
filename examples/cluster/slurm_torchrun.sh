#!/usr/bin/env bash
# A run that the GPUs of all nodes train together: one torchrun for each node, one rank for each GPU.
#
#     sbatch --nodes=2 examples/cluster/slurm_torchrun.sh examples/configs/spos_imagenet.yaml /shared/runs/imagenet-1
#
# The run directory must be on a file system that all nodes share. The same command continues a run that was stopped.
#SBATCH --job-name=automl-torchrun
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=32
#SBATCH --mem=128G
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=automl-torchrun-%j.log
set -euo pipefail
config=${1:?usage: sbatch slurm_torchrun.sh CONFIG RUN}
run=${2:?usage: sbatch slurm_torchrun.sh CONFIG RUN}

read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
command=(run "$config" --out "$run")
if [ -e "$run/config.yaml" ]; then
  command=(resume "$run")
fi
# Five minutes before the time limit all ranks receive SIGTERM and stop at the next safe point with a checkpoint;
# torchrun gives them four minutes for that.
exec srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
  --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$first:$((20000 + SLURM_JOB_ID % 20000))" \
  --shutdown-timeout 240 --no-python automl-nas "${command[@]}"
