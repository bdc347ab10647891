#!/usr/bin/env bash
# One run on several nodes, with srun: sbatch scripts/slurm/several_nodes.sh model=conv_vae data=celeba
# srun starts one task for each device, and Lightning reads each task's rank from SLURM.
#SBATCH --job-name=vaezoo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail

# One task per device on each node: SLURM and Lightning must agree. The batch size is the total over all devices. If one
# task dies, SLURM ends the others, which would otherwise wait for it. trainer=fsdp2 divides the weights between the
# devices, for models that are too large for one.
srun --kill-on-bad-exit=1 python train.py trainer=ddp \
  trainer.num_nodes="$SLURM_NNODES" trainer.devices="$SLURM_NTASKS_PER_NODE" \
  run_dir="runs/$SLURM_JOB_ID" trainer.enable_progress_bar=false "$@"
