#!/usr/bin/env bash
# The same run with several seeds, as an array: sbatch --array=0-9%4 scripts/slurm/seeds.sh model=beta_vae model.beta=4
# The array index is the seed, and %4 limits the array to four jobs in parallel. For several models or settings, with a
# report on all of them, use vaezoo benchmark launcher=submitit_slurm.
#SBATCH --job-name=vaezoo
#SBATCH --array=0-4
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%A_%a.log
set -euo pipefail

srun python train.py seed="$SLURM_ARRAY_TASK_ID" run_dir="runs/${SLURM_ARRAY_JOB_ID}_seed_$SLURM_ARRAY_TASK_ID" \
  trainer.enable_progress_bar=false "$@"
