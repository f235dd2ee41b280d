down <- function(into, out) {
  nn_sequential(
    nn_conv2d(into, out, kernel_size = 3, stride = 2, padding = 1),
    nn_batch_norm2d(out),
    nn_leaky_relu(0.01)
  )
}
