#!/usr/bin/env bash
# A run that takes longer than a job's time limit: sbatch scripts/slurm/requeue.sh model=vae data=celeba trainer.max_epochs=1000
# Two minutes before the time limit, or when it is preempted, the run saves a checkpoint and exits with 143, and the job
# is requeued under the same job ID; resume=auto then resumes the run exactly.
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

# The folder is named after the job ID, which does not change when the job is requeued, and has no time in its name.
code=0
srun python train.py run_dir="runs/$SLURM_JOB_ID" resume=auto trainer.enable_progress_bar=false "$@" || code=$?

# 143: stopped by a signal, and can be resumed. scancel also ends this script, so that a cancelled job is not requeued.
if [[ $code == 143 ]]; then
  echo "the run is not finished: job $SLURM_JOB_ID goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
