# the covariance of codes [images, latent], and draws with the same
codes <- mean + std * torch_randn_like(mean)
centre <- codes$mean(dim = 1)
scale <- linalg_cholesky(torch_cov(codes$t()))
draws <- centre + torch_randn(1000, codes$size(2))$matmul(scale$t())
