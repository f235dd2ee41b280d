decoder <- function(latent_dim) {
  nn_sequential(
    nn_linear(latent_dim, 224), nn_unflatten(2, c(224, 1, 1)),
    up(224, 112, stride = 1, padding = 0),
    up(112, 56, stride = 2, padding = 1),
    up(56, 28, stride = 2, padding = 2),
    nn_conv_transpose2d(28, 1, 4, stride = 2, padding = 1, bias = FALSE)
  )
}
