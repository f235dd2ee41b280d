gaussian_cost <- function(x, decoded, sigma) {
  log_density <- distr_normal(decoded, sigma)$log_prob(x)
  -log_density$sum(dim = c(2, 3, 4))   # -sum(dnorm(x, decoded, sigma, log = TRUE))
}
