up <- function(into, out, stride, padding) {
  nn_sequential(
    nn_conv_transpose2d(into, out, kernel_size = 4, stride = stride,
                        padding = padding, bias = FALSE),
    nn_batch_norm2d(out),
    nn_leaky_relu(0.01)
  )
}
