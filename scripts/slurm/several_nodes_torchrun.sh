#!/usr/bin/env bash
# One run on several nodes, with torchrun: sbatch scripts/slurm/several_nodes_torchrun.sh model=conv_vae data=celeba
# SLURM starts one task on each node, and torchrun starts a process for each device on it. For clusters on which srun
# cannot access the devices (because of containers, for example), and for users who are familiar with torchrun.
#SBATCH --job-name=vaezoo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail

devices=${DEVICES:-4}   # on each node, as in --gpus-per-node
first=${MASTER_ADDR:-$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)}
port=$((20000 + SLURM_JOB_ID % 20000))   # depends on the job, in case two share a node

srun python -m torch.distributed.run --nnodes="$SLURM_NNODES" --nproc-per-node="$devices" \
  --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:$port" \
  train.py trainer=ddp trainer.num_nodes="$SLURM_NNODES" trainer.devices="$devices" \
  run_dir="runs/$SLURM_JOB_ID" trainer.enable_progress_bar=false "$@"
