half <- list(kind = nn_conv2d, kernel_size = 4, stride = 2, padding = 1)
layers <- list(
  c(half, in_channels = 1, out_channels = 16),
  c(half, in_channels = 16, out_channels = 32)
)
build <- function(layer) {
  do.call(layer$kind, layer[names(layer) != "kind"])
}
encoder <- do.call(nn_sequential, lapply(layers, build))
