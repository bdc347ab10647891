"""The conditional variational autoencoder."""

from vaezoo.models.conditional import Conditional
from vaezoo.models.vae import VAE


class ConditionalVAE(Conditional, VAE):  # type: ignore[misc]  # loss_terms takes labels
    """VAE of images given their label, which encoder and decoder see (Sohn et al., 2015).

    It maximises E_q(z|x,y) log p(x|z, y) - KL(q(z|x, y) || p(z)) <= log p(x|y), in nats, or with p(z|y) if
    ``model.prior=conditional``. This bound, ``elbo_given_label``, is not one on log p(x), so it is never compared with
    the ELBO of other models. The label is one-hot: further inputs of the first fully connected layer, or constant
    planes for a convolution. Sohn et al. condition on images, with networks for p(z|x); here, p(z|y) has a mean and a
    variance for each label. Bits per dimension, and samples from a mixture of codes, are not available.
    """

    selection = ("val/elbo_given_label", "max")
