#!/usr/bin/env bash
# One run on one GPU: sbatch scripts/slurm/one_gpu.sh model=vae data=cifar10
# Submit it from the folder that contains train.py, with the virtual environment active. The #SBATCH options can also be
# set on the command line, before the file name: sbatch --partition=gpu --time=24:00:00 scripts/slurm/one_gpu.sh ...
#SBATCH --job-name=vaezoo
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail

# Progress bars fill log files. Command-line settings come last, so that they override the ones here.
srun python train.py run_dir="runs/$SLURM_JOB_ID" trainer.enable_progress_bar=false "$@"
