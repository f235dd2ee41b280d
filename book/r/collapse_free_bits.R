free_bits <- function(mean, log_var, allowance) {
  kl <- 0.5 * (mean^2 + log_var$exp() - 1 - log_var)
  kl$mean(dim = 1)$clamp(min = allowance)$sum()
}
