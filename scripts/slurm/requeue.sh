#!/usr/bin/env bash
# A run that is longer than a job may be: sbatch scripts/slurm/requeue.sh model=vae data=celeba trainer.max_epochs=1000
# Two minutes before its time is up, or when it is preempted, the run saves a checkpoint and ends with 143, and the job
# goes back into the queue under its old number; there resume=auto goes on exactly where the run was.
#SBATCH --job-name=vaezoo
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.log
set -euo pipefail

# The folder has the job's number, which stays the same, and no time in its name.
code=0
srun python train.py run_dir="runs/$SLURM_JOB_ID" resume=auto trainer.enable_progress_bar=false "$@" || code=$?

# 143: stopped by a signal, with all that it needs to go on. scancel ends this script too, and so the job for good.
if [[ $code == 143 ]]; then
  echo "the run is not finished: job $SLURM_JOB_ID goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
