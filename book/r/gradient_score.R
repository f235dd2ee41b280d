score_function <- function(f, mean, std, noise, baseline = 0) {
  mean <- mean$expand_as(noise)$clone()$requires_grad_(TRUE)
  z <- (mean + std * noise)$detach()
  log_q <- distr_normal(mean, std)$log_prob(z)$sum(dim = 2)
  surrogate <- (f(z) - baseline) * log_q
  autograd_grad(surrogate$sum(), mean)[[1]]
}
