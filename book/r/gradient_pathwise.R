pathwise <- function(f, mean, std, noise) {
  mean <- mean$expand_as(noise)$clone()$requires_grad_(TRUE)
  z <- mean + std * noise
  autograd_grad(f(z)$sum(), mean)[[1]]
}
