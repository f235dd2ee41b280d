"""What a chapter writes out is what the package does."""

import pytest
import torch

import vaebook as vb


@pytest.fixture(scope="module")
def chapter(definitions):
    """What *A first VAE* defines, as its readers have it."""
    return definitions("a-first-vae")


@pytest.mark.parametrize("latent_dim", [2, 128])
def test_the_first_vae_and_conv_vae_give_the_same_outputs_from_the_same_weights(
    chapter, latent_dim
):
    torch.manual_seed(1)
    written_out = chapter["FirstVAE"](latent_dim)
    packaged = vb.conv_vae((1, 28, 28), latent_dim)
    weights = written_out.state_dict().values()
    packaged.load_state_dict(dict(zip(packaged.state_dict(), weights, strict=True)))
    x = torch.rand(16, 1, 28, 28)
    for mode in (True, False):
        written_out.train(mode)
        packaged.train(mode)
        torch.manual_seed(2)
        logits, mean, log_var = written_out(x)
        torch.manual_seed(2)
        output = packaged(x)
        torch.testing.assert_close(output.mean, mean, rtol=0, atol=0)
        torch.testing.assert_close(output.log_var, log_var, rtol=0, atol=0)
        torch.testing.assert_close(output.params, logits)  # one layer multiplies in another order


def test_the_written_out_loss_is_the_objective(chapter):
    torch.manual_seed(3)
    model = vb.conv_vae((1, 28, 28), latent_dim=5).eval()
    x = torch.rand(7, 1, 28, 28)
    torch.manual_seed(4)
    terms = vb.NegativeELBO()(model, x)
    torch.manual_seed(4)
    output = model(x)
    written_out = chapter["negative_elbo"](output.params, x, output.mean, output.log_var)
    torch.testing.assert_close((terms.reconstruction, terms.kl), written_out)
    torch.testing.assert_close(terms.loss, sum(written_out))
