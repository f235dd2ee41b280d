joint <- function(z, x) {
  dnorm(z) * dnorm(x, parabola(z), sigma)
}

evidence <- function(x) {
  integrate(joint, -10, 10, x = x, rel.tol = 1e-12)$value
}
