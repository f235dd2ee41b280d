reparameterize <- function(mean, log_var) {
  mean + torch_exp(0.5 * log_var) * torch_randn_like(mean)
}
