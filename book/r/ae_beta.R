beta <- 0                          # an autoencoder with noise; 1 makes it a VAE
c(reconstruction, kl) %<-% negative_elbo(logits, x, mean, log_var)
loss <- (reconstruction + beta * kl)$mean()
