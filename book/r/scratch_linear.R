forward <- function(x, weight, bias) {
  x %*% weight + rep(bias, each = nrow(x))
}

backward <- function(gradient, x, weight) {
  list(
    x = gradient %*% t(weight),
    weight = t(x) %*% gradient,
    bias = colSums(gradient)
  )
}
