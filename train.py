"""Train an autoencoder: python train.py model=beta_vae. The same as `vaezoo train`."""

if __name__ == "__main__":
    import _signal  # type: ignore[import-not-found]  # the built-in part of signal, at hand at once

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # from here on Ctrl-C leaves no traceback

    from vaezoo.distributed import interrupts

    def train() -> None:
        from vaezoo.commands import command_line

        command_line.train()

    interrupts.run(train)
