#!/usr/bin/env bash
# One worker for each GPU of this machine, without a scheduler. Ctrl-C or SIGTERM ends all of them in an orderly way.
#
#     export STORAGE='postgresql://me:secret@host/searches'
#     bash examples/cluster/workers_of_one_machine.sh
#
# GPUS='0 2' selects GPUs; arguments are passed to each worker.
set -euo pipefail
: "${STORAGE:?set STORAGE to the URL of the Optuna storage}"
gpus=${GPUS:-$(nvidia-smi --query-gpu=index --format=csv,noheader)}

workers=()
trap 'kill -TERM "${workers[@]}" 2>/dev/null || true' INT TERM
for gpu in $gpus; do
  # shellcheck disable=SC2016 # the worker replaces ${STORAGE} itself: no list of processes shows the password
  automl-nas worker '${STORAGE}' --device "cuda:$gpu" "$@" &
  workers+=($!)
done
wait || true # a signal ends this wait at once ...
wait         # ... and the workers then return their evaluations
