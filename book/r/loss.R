negative_elbo <- function(logits, x, mean, log_var) {
  cross_entropy <- nnf_binary_cross_entropy_with_logits(logits, x, reduction = "none")
  reconstruction <- cross_entropy$sum(dim = c(2, 3, 4))
  kl <- 0.5 * (mean^2 + log_var$exp() - 1 - log_var)$sum(dim = 2)
  list(reconstruction, kl)
}
