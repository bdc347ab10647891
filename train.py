"""Train an autoencoder: python train.py model=beta_vae. The same as `vaezoo train`."""

from vaezoo.cli import train

if __name__ == "__main__":
    train()
