pixels_averaged <- function(logits, x, mean, log_var) {
  # reduction = "mean" by default, here as in PyTorch: over the batch and all pixels
  reconstruction <- nnf_binary_cross_entropy_with_logits(logits, x)
  kl <- 0.5 * (mean^2 + log_var$exp() - 1 - log_var)$sum(dim = 2)
  reconstruction + kl$mean()
}
