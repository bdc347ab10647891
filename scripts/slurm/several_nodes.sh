#!/usr/bin/env bash
# One run on several nodes, by srun: sbatch scripts/slurm/several_nodes.sh model=conv_vae data=celeba
# srun starts a task for each device, and Lightning reads from SLURM which one it is.
#SBATCH --job-name=vaezoo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --mem=64G
#SBATCH --time=04:00:00
#SBATCH --output=slurm-%j.log
set -euo pipefail

# As many tasks on a node as devices there: SLURM and Lightning must agree. The batch size is that of all devices
# together. If one task dies, SLURM ends the others, which would wait for it. trainer=fsdp2 divides the weights between
# the devices, for models that outgrow one.
srun --kill-on-bad-exit=1 python train.py trainer=ddp \
  trainer.num_nodes="$SLURM_NNODES" trainer.devices="$SLURM_NTASKS_PER_NODE" \
  run_dir="runs/$SLURM_JOB_ID" trainer.enable_progress_bar=false "$@"
