#!/usr/bin/env bash
# One run on one GPU: sbatch scripts/slurm/one_gpu.sh model=vae data=cifar10
# Submit it from the folder with train.py, with the virtual environment active. What stands behind #SBATCH can be set
# on the command line too, before the file: sbatch --partition=gpu --time=24:00:00 scripts/slurm/one_gpu.sh ...
#SBATCH --job-name=vaezoo
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail

# Progress bars fill logs. The words of the command line come last, so that they go before what stands here.
srun python train.py run_dir="runs/$SLURM_JOB_ID" trainer.enable_progress_bar=false "$@"
